//! What goes on at the same time.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;

use super::Place;

/// A thread that does the same over and over until this value is dropped.
struct Busy {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Busy {
    fn with(mut work: impl FnMut() + Send + 'static) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                work();
            }
        });
        Self { over, thread: Some(thread) }
    }

    /// Swaps two names, and leaves them for as long as a call takes, or less.
    fn swapping(place: &Place, one: &str, other: &str) -> Self {
        let (one, other) = (place.at(one), place.at(other));
        Self::with(move || {
            renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
            for _ in 0..fastrand::u32(..2000) {
                std::hint::spin_loop();
            }
        })
    }

    /// Reads and writes as a naive server does, and counts what it reads of others.
    fn losing(place: &Place, read: &'static str, write: &'static str) -> (Self, Arc<AtomicUsize>) {
        let (root, lost) = (place.root(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&lost);
        let busy = Self::with(move || {
            let secret = naive_read(&root, read).is_some_and(|read| read == b"secret");
            count.fetch_add(secret.into(), Ordering::Relaxed);
            let _ = naive_write(&root, write);
        });
        (busy, lost)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

/// Looks where a path really leads and whether that has one name, and opens it then.
fn naive_read(root: &Path, path: &str) -> Option<Vec<u8>> {
    let place = root.join(path).canonicalize().ok()?;
    (place.starts_with(root) && place.metadata().ok()?.nlink() == 1).then_some(())?;
    std::fs::read(root.join(path)).ok()
}

/// As [`naive_read`], writing.
fn naive_write(root: &Path, path: &str) -> Option<()> {
    root.join(path).parent()?.canonicalize().ok()?.starts_with(root).then_some(())?;
    std::fs::write(root.join(path), "naive").ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_directory_that_is_swapped_with_a_link_out_loses_nothing() {
    let place = Place::new();
    place.make("data/door/secret.txt", b"mine");
    place.link("../data_evil", "data/link");
    place.make("data_evil/other.txt", b"");
    let server = place.connect().await;
    let swapping = Busy::swapping(&place, "data/door", "data/link");
    let (losing, lost) = Busy::losing(&place, "door/secret.txt", "door/naive.txt");
    let (began, mut mine, mut calls) = (Instant::now(), 0, 0);
    // As long as it takes until it is known that there is a way, and ours has had its chances.
    let is_known = || lost.load(Ordering::Relaxed) > 0 && place.at("data_evil/naive.txt").exists();
    while (calls < 1600 || !is_known()) && began.elapsed() < Duration::from_secs(60) {
        let (read, several, _, _, listed, tree, _, _) = tokio::join!(
            server.read("door/secret.txt"),
            server.ask("read_multiple_files", json!({ "paths": ["door/secret.txt"] })),
            server.write("door/ours.txt", "ours"),
            server.edit("door/secret.txt", "mine", "mine"),
            server.ask("list_directory", json!({ "path": "door" })),
            server.ask("directory_tree", json!({ "path": "." })),
            server.rename("door/ours.txt", "door/moved.txt"),
            server.make("door/made"),
        );
        calls += 8;
        mine += usize::from(read.as_deref() == Ok("mine"));
        for told in [read, several, listed, tree].into_iter().flatten() {
            assert!(!told.contains("other.txt") && !told.ends_with("secret\n"), "{told}");
            assert_ne!(told, "secret");
        }
    }
    drop((swapping, losing));
    let outside = std::fs::read_dir(place.at("data_evil")).unwrap();
    let mut outside: Vec<_> = outside.map(|entry| entry.unwrap().file_name()).collect();
    outside.sort();
    // There was a way: another has found it.
    assert!(lost.load(Ordering::Relaxed) > 0, "there was no race");
    assert_eq!(outside, ["naive.txt", "other.txt", "secret.txt"], "after {calls} calls");
    assert_eq!(place.bytes("data_evil/secret.txt"), b"secret");
    assert!(mine > 0, "nothing was read at all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_that_is_swapped_with_a_link_out_loses_nothing() {
    let place = Place::new();
    place.make("data/file", b"mine");
    place.link("../secret.txt", "data/link");
    swapped(&place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_that_is_swapped_with_a_second_name_of_one_outside_loses_nothing() {
    let place = Place::new();
    place.make("data/file", b"mine");
    std::fs::hard_link(place.at("secret.txt"), place.at("data/link")).unwrap();
    swapped(&place).await;
}

/// Swaps `file` with `link`, by which the secret is read, and reads and writes meanwhile.
async fn swapped(place: &Place) {
    let server = place.connect().await;
    let swapping = Busy::swapping(place, "data/file", "data/link");
    let (losing, lost) = Busy::losing(place, "file", "sub/naive.txt");
    let (began, mut mine, mut calls) = (Instant::now(), 0, 0);
    while (calls < 600 || lost.load(Ordering::Relaxed) == 0)
        && began.elapsed() < Duration::from_secs(60)
    {
        let (read, several) = tokio::join!(
            server.read("file"),
            server.ask("read_multiple_files", json!({ "paths": ["file"] })),
        );
        calls += 2;
        mine += usize::from(read.as_deref() == Ok("mine"));
        assert_ne!(read.as_deref(), Ok("secret"));
        assert!(!several.unwrap().contains("secret\n"));
    }
    // This may give the link's name to what is written, which ends the race, and nothing else.
    for _ in 0..200 {
        let _ = tokio::join!(server.write("file", "mine"), server.edit("file", "mine", "mine"));
    }
    drop((swapping, losing));
    assert!(lost.load(Ordering::Relaxed) > 0, "there was no race");
    assert_eq!(place.bytes("secret.txt"), b"secret", "after {calls} calls");
    assert!(mine > 0, "nothing was read at all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn edits_of_one_file_at_the_same_time_are_all_kept() {
    let place = Place::new();
    let marks: Vec<_> = (0..40).map(|number| format!("<{number}>")).collect();
    place.make("data/shared", marks.join("\n").as_bytes());
    let server = place.connect().await;
    let edits = marks.iter().map(|mark| server.edit("shared", mark, "done"));
    for told in futures::future::join_all(edits).await {
        told.unwrap();
    }
    assert_eq!(place.bytes("data/shared"), vec!["done"; 40].join("\n").into_bytes());
    let left = std::fs::read_dir(place.root()).unwrap().count();
    assert_eq!(left, 3, "what was written beside is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_is_never_seen_half_written() {
    let place = Place::new();
    let (ones, twos) = ("1".repeat(200_000), "2".repeat(200_000));
    place.make("data/file", ones.as_bytes());
    let server = place.connect().await;
    let (path, seen) = (place.at("data/file"), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&seen);
    let reading = Busy::with(move || {
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.len() == 200_000 && bytes.iter().all(|byte| *byte == bytes[0]));
        count.fetch_add(1, Ordering::Relaxed);
    });
    for text in [&twos, &ones].repeat(20) {
        server.write("file", text).await.unwrap();
    }
    drop(reading);
    assert!(seen.load(Ordering::Relaxed) > 0);
}
