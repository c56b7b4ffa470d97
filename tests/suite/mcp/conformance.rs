use std::path::Path;

use tokio::process::Command;

use crate::packages::run;

/// Has the judges ask a server that has their tools, and again through what stands before it at `through`: what
/// is passed there has to be passed here.
pub(crate) async fn judge_through(url: &str, through: &str) {
    conform(&[url, "through", through]).await;
}

/// Has the protocol's own judges ask the server at `url` all that needs no tools of theirs.
pub(crate) async fn judge(url: &str) {
    conform(&[url]).await;
}

async fn conform(words: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut judges = Command::new(root.join("scripts/conformance.sh"));
    judges.args(words).env("BATON_TEST_TOOLS", env!("CARGO_TARGET_TMPDIR"));
    let said = run(&mut judges).await;
    assert!(said.ends_with("conformance: good\n"), "{said}");
}
