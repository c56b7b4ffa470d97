//! A process group, from its start until nothing of it is left.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, waitid, waitpgid,
};
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long it has to end by itself once its input has, and then once it was told to.
const GRACE: Duration = Duration::from_secs(2);

/// A program and what it started, as far as that stayed with it; they are killed with this value.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) child: Child,
    leader: Pid,
    /// Tells that some child has ended.
    ends: unix::Signal,
}

impl Group {
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        let ends = unix::signal(SignalKind::child())?;
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let leader = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let leader = leader.ok_or_else(|| io::Error::other("it has no id"))?;
        Ok(Self { child, leader, ends })
    }

    /// Waits until the leader ends, or `stop` and it had its time to; kills the rest and reaps all.
    /// Returns how it ended, and whether it did so by itself.
    pub(super) async fn keep(
        &mut self,
        stop: &CancellationToken,
    ) -> io::Result<(ExitStatus, bool)> {
        let by_itself = tokio::select! {
            ended = self.ended() => ended.map(|()| true)?,
            () = stop.cancelled() => {
                if timeout(GRACE, self.ended()).await.is_err() {
                    self.signal(Signal::TERM);
                    let _ = timeout(GRACE, self.ended()).await;
                }
                false
            }
        };
        // Before the leader is waited for: from then on its number may be another's.
        self.signal(Signal::KILL);
        let status = self.child.wait().await?;
        // Ours to reap where this process is the first of its container.
        let leader = self.leader;
        let rest =
            move || while waitpgid(leader, WaitOptions::empty()).is_ok_and(|one| one.is_some()) {};
        tokio::task::spawn_blocking(rest).await.map_err(io::Error::other)?;
        Ok((status, by_itself))
    }

    /// Waits until the leader has ended, and leaves it to be waited for.
    async fn ended(&mut self) -> io::Result<()> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        while waitid(WaitId::Pid(self.leader), look)?.is_none() {
            if self.ends.recv().await.is_none() {
                return Err(io::Error::other("no signals come"));
            }
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        // There may be nobody left.
        let _ = kill_process_group(self.leader, signal);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It has a number until it was waited for.
        if self.child.id().is_some() {
            self.signal(Signal::KILL);
        }
    }
}
