"""Fills and searches vector stores through OpenAI's own SDK. Usage: vector_stores.py BASE_URL KEY OTHER_TENANTS_KEY"""

import sys

import openai

url, key, other = sys.argv[1:]
client = openai.OpenAI(base_url=url, api_key=key, max_retries=0)
stranger = openai.OpenAI(base_url=url, api_key=other, max_retries=0)
files, batches = client.vector_stores.files, client.vector_stores.file_batches
QUICK = {"poll_interval_ms": 20}
SOON = {**QUICK, "max_wait_seconds": 60}


def refused(kind, call, *said):
    """Calls, and checks that it is refused so."""
    try:
        call()
    except kind as error:
        assert all(word in error.message for word in said), error
        return
    raise SystemExit(f"was not refused: {said}")


store = client.vector_stores.create(name="handbook", metadata={"team": "web"})
assert (store.name, store.metadata, store.status) == ("handbook", {"team": "web"}, "completed"), store
assert store.file_counts.total == 0 and store.object == "vector_store", store

guide = b"# Guide\n\nTo roll back a release, run the rollback script.\n"
file = client.files.create(file=("guide.md", guide), purpose="assistants")
assert file.purpose == "assistants", file
added = client.vector_stores.files.create(
    store.id, file_id=file.id, attributes={"year": 2024, "draft": False}
)
assert (added.id, added.vector_store_id) == (file.id, store.id), added
added = client.vector_stores.files.poll(file.id, vector_store_id=store.id, **SOON)
assert (added.status, added.last_error, added.usage_bytes) == ("completed", None, len(guide)), added
assert added.attributes == {"year": 2024, "draft": False}, added

# The same name again is another file.
old = client.vector_stores.files.upload_and_poll(
    vector_store_id=store.id,
    file=("guide.md", b"In 1999 a release was rolled back by hand."),
    attributes={"year": 1999},
    **SOON,
)
assert old.status == "completed" and old.id != file.id, old
bad = client.vector_stores.files.upload_and_poll(
    vector_store_id=store.id, file=("bad.md", b"\xff\xfe"), **SOON
)
assert bad.status == "failed" and "is not UTF-8" in bad.last_error.message, bad
counts = client.vector_stores.retrieve(store.id).file_counts
assert (counts.completed, counts.failed, counts.in_progress, counts.total) == (2, 1, 0, 3), counts

found = client.vector_stores.search(store.id, query="How do I roll back a release?")
assert {hit.file_id for hit in found.data} == {file.id, old.id}, found
year = {"type": "eq", "key": "year", "value": 2024}
found = client.vector_stores.search(
    store.id,
    query=["roll back", "rollback script"],
    filters={"type": "and", "filters": [year, {"type": "ne", "key": "draft", "value": True}]},
    max_num_results=5,
    ranking_options={"ranker": "auto", "score_threshold": 0.0},
    rewrite_query=False,
)
[hit] = found.data
assert (hit.file_id, hit.filename) == (file.id, "guide.md"), hit
assert hit.attributes == {"year": 2024, "draft": False}, hit
assert "run the rollback script" in hit.content[0].text and hit.score > 0, hit
found = client.vector_stores.search(
    store.id, query="rollback", ranking_options={"score_threshold": 1e9}
)
assert found.data == [], found

# What a file is filtered by changes, and nothing else of it.
ada = {"year": 2025, "author": "Ada"}
for attributes in (ada, None, ada, {}, ada):
    changed = files.update(file.id, vector_store_id=store.id, attributes=attributes)
    for one in (changed, files.retrieve(file.id, vector_store_id=store.id)):
        assert (one.id, one.attributes) == (file.id, attributes or {}), one
        assert (one.status, one.usage_bytes) == (added.status, added.usage_bytes), one
        assert one.created_at == added.created_at, one
    for year, wanted in ((2025, [file.id] if attributes else []), (2024, []), (1999, [old.id])):
        by_year = {"type": "eq", "key": "year", "value": year}
        found = client.vector_stores.search(store.id, query="roll back a release", filters=by_year)
        assert [hit.file_id for hit in found.data] == wanted, (attributes, year, found)
[content] = files.content(file.id, vector_store_id=store.id)
assert content.text.encode() == guide, content
changed = files.update(bad.id, vector_store_id=store.id, attributes={"year": 2024})
assert (changed.status, changed.attributes) == ("failed", {"year": 2024}), changed

# Pages.
for order in ("asc", "desc"):
    listed = [one.id for one in client.vector_stores.files.list(store.id, limit=1, order=order)]
    wanted = [file.id, old.id, bad.id]
    assert listed == (wanted if order == "asc" else wanted[::-1]), listed
    middle = files.list(store.id, before=wanted[2 if order == "asc" else 0], limit=1, order=order)
    assert ([one.id for one in middle.data], middle.has_more) == ([old.id], True), middle
failed = files.list(store.id, filter="failed")
assert [one.id for one in failed] == [bad.id], failed
between = files.list(store.id, after=file.id, before=bad.id, order="asc")
assert ([one.id for one in between.data], between.has_more) == ([old.id], False), between
assert files.list(store.id, filter="cancelled").data == []
second = client.vector_stores.create(name="second", file_ids=[file.id])
stores = [one.id for one in client.vector_stores.list(limit=1)]
assert stores[:2] == [second.id, store.id], stores
before = client.vector_stores.list(before=store.id, order="asc", limit=1)
assert store.id not in [one.id for one in before.data], before

[content] = client.vector_stores.files.content(file.id, vector_store_id=store.id)
assert content.text.encode() == guide, content

changed = client.vector_stores.update(store.id, name="guides")
assert (changed.name, changed.metadata) == ("guides", {"team": "web"}), changed
changed = client.vector_stores.update(store.id, metadata={"a": "b"})
assert (changed.name, changed.metadata) == ("guides", {"a": "b"}), changed

batch = client.vector_stores.file_batches.create_and_poll(
    second.id, file_ids=[file.id, old.id], attributes={"batch": True}, **QUICK
)
assert batch.status == "completed" and batch.file_counts.completed == 2, batch
assert client.vector_stores.retrieve(second.id).file_counts.total == 2
assert client.vector_stores.files.retrieve(old.id, vector_store_id=second.id).attributes == {
    "batch": True
}

of_batch = {"batch_id": batch.id, "vector_store_id": second.id}
for order in ("asc", "desc"):
    listed = [one.id for one in batches.list_files(**of_batch, limit=1, order=order)]
    wanted = [file.id, old.id]
    assert listed == (wanted if order == "asc" else wanted[::-1]), listed
[last] = batches.list_files(**of_batch, after=file.id, order="asc").data
assert (last.id, last.status, last.attributes) == (old.id, "completed", {"batch": True}), last
assert last.vector_store_id == second.id and last.usage_bytes > 0, last
[first] = batches.list_files(**of_batch, before=old.id, order="asc").data
assert first.id == file.id, first
for status, count in (("completed", 2), ("failed", 0), ("in_progress", 0), ("cancelled", 0)):
    listed = batches.list_files(**of_batch, filter=status).data
    assert len(listed) == count, (status, listed)
bad_request, missing = openai.BadRequestError, openai.NotFoundError
refused(bad_request, lambda: batches.list_files(**of_batch, filter="lost"), "filter", "lost")
refused(bad_request, lambda: batches.list_files(**of_batch, limit=101), "limit")
for number, name in ((batch.id, store.id), ("job_none", second.id), (batch.id, "vs_none")):
    of_none = {"batch_id": number, "vector_store_id": name}
    refused(missing, lambda: batches.list_files(**of_none), "does not exist")
    refused(missing, lambda: batches.list_files(**of_none, filter="cancelled"), "does not exist")
# One that was removed from the store since is not there, one that failed is.
removed = batches.create_and_poll(second.id, file_ids=[file.id, bad.id], **QUICK)
assert files.delete(file.id, vector_store_id=second.id).deleted
[left] = batches.list_files(removed.id, vector_store_id=second.id)
assert (left.id, left.status) == (bad.id, "failed"), left
assert "is not UTF-8" in left.last_error.message, left
assert files.delete(bad.id, vector_store_id=second.id).deleted
assert batches.create_and_poll(second.id, file_ids=[file.id], **QUICK).status == "completed"
cancelled = client.vector_stores.file_batches.cancel(batch.id, vector_store_id=second.id)
assert cancelled.status == "cancelled" and cancelled.file_counts.completed == 2, cancelled
assert client.vector_stores.retrieve(second.id).file_counts.completed == 2, "what is completed stays"

# What is not ours to do is said, and nothing is made of it.
static = {"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}}
days = {"anchor": "last_active_at", "days": 7}
create = client.vector_stores.create
made = len(list(client.vector_stores.list()))
refused(bad_request, lambda: create(chunking_strategy=static), "/chunking_strategy")
refused(bad_request, lambda: create(expires_after=days), "/expires_after")
refused(bad_request, lambda: create(name="x" * 300), "/name")
refused(bad_request, lambda: create(description="x"), "description")
refused(bad_request, lambda: create(extra_body={"colour": "red"}), "colour")
refused(openai.NotFoundError, lambda: create(file_ids=["file-none"]), "file-none")
image = client.files.create(file=("a.pdf", b"no PDF"), purpose="user_data")
refused(bad_request, lambda: create(file_ids=[image.id]), "is not a PDF")
assert len(list(client.vector_stores.list())) == made
refused(
    bad_request,
    lambda: files.create(store.id, file_id=file.id, chunking_strategy=static),
    "/chunking_strategy",
)
refused(
    bad_request, lambda: files.create(store.id, file_id=file.id, attributes={"A": 1}), "/attributes/A"
)
ids = [file.id, file.id]
refused(bad_request, lambda: batches.create(store.id, file_ids=ids), "/file_ids: ", "twice")
one = {"file_id": file.id}
for some, said in (([one, one], "twice"), ([], "has 0"), ([one] * 501, "has 501")):
    refused(bad_request, lambda: batches.create(store.id, files=some), "/files: ", said)
assert client.vector_stores.retrieve(store.id).file_counts.total == 3
search = client.vector_stores.search
typo = {"type": "eq", "key": "yaer", "value": 1}
refused(bad_request, lambda: search(store.id, query="x", filters=typo), "/filters/key", "yaer")
refused(bad_request, lambda: search(store.id, query=""), "/query")
refused(bad_request, lambda: search(store.id, query="x", max_num_results=51), "/max_num_results")
refused(bad_request, lambda: search(store.id, query="x", rewrite_query=True), "/rewrite_query")
ranker = {"ranker": "best"}
refused(bad_request, lambda: search(store.id, query="x", ranking_options=ranker), "ranker")
of_file = f"/vector_stores/{store.id}/files/{file.id}"
for attributes, said in (
    ({"a": {"b": 1}}, "/a: is not a text, a number, true or false"),
    ({"a": [["b"]]}, "/a: is not a text, a number, true or false"),
    ({"a": None}, "/a: is not a text, a number, true or false"),
    ({f"a{number}": number for number in range(33)}, "there are 33, at most 32"),
    ({"a" * 65: 1}, "a name has 1 to 64"),
    ({"a": "b" * 257}, "has 257 bytes, at most 256"),
    ({"year": "MMXXIV"}, "/attributes/year: is a text, and a number in this collection"),
    ([1], "/attributes: is not an object"),
):
    changed = {"attributes": attributes}
    refused(bad_request, lambda: client.post(of_file, cast_to=object, body=changed), said)
for body, said in (({}, "missing field `attributes`"), ({"attributes": {}, "colour": 1}, "colour")):
    refused(bad_request, lambda: client.post(of_file, cast_to=object, body=body), said)
assert files.retrieve(file.id, vector_store_id=store.id).attributes == ada
update = files.update
refused(missing, lambda: update("file-none", vector_store_id=store.id, attributes={}), "file-none")
refused(missing, lambda: update(file.id, vector_store_id="vs_none", attributes={}), "vs_none")

# Another tenant has none of it.
theirs = stranger.vector_stores
for call in (
    lambda: theirs.retrieve(store.id),
    lambda: theirs.update(store.id, name="theirs"),
    lambda: theirs.delete(store.id),
    lambda: theirs.search(store.id, query="rollback"),
    lambda: theirs.files.list(store.id),
    lambda: theirs.files.retrieve(file.id, vector_store_id=store.id),
    lambda: theirs.files.content(file.id, vector_store_id=store.id),
    lambda: theirs.files.update(file.id, vector_store_id=store.id, attributes={}),
    lambda: theirs.files.delete(file.id, vector_store_id=store.id),
    lambda: theirs.files.create(store.id, file_id=file.id),
    lambda: theirs.file_batches.retrieve(batch.id, vector_store_id=store.id),
    lambda: theirs.file_batches.list_files(removed.id, vector_store_id=second.id),
):
    refused(openai.NotFoundError, call)
assert [one.id for one in theirs.list()] == ["default"]

assert files.delete(old.id, vector_store_id=store.id).deleted
refused(openai.NotFoundError, lambda: files.retrieve(old.id, vector_store_id=store.id), old.id)
refused(openai.NotFoundError, lambda: files.delete(old.id, vector_store_id=store.id), old.id)
assert files.delete(bad.id, vector_store_id=store.id).deleted, "what failed can be removed, too"
found = client.vector_stores.search(store.id, query="roll back a release")
assert [hit.file_id for hit in found.data] == [file.id], found
assert client.vector_stores.retrieve(store.id).file_counts.total == 1
assert client.files.retrieve(old.id).filename == "guide.md", "the file itself stays"
assert client.vector_stores.delete(store.id).deleted
refused(openai.NotFoundError, lambda: client.vector_stores.retrieve(store.id), store.id)
