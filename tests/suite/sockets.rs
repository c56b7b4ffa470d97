//! No small write waits for a larger one.

use std::os::fd::OwnedFd;

use journeys::{Shape, System, conversation, priced};
use rustix::net::sockopt;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use testkit::provider::Provider;

#[tokio::test]
async fn every_connection_has_tcp_nodelay() {
    let provider = Provider::start().await.unwrap();
    for shape in Shape::ALL {
        let system = System::start(shape, &priced(&provider.url)).await.unwrap();
        // While a stream is on its way every connection that it takes is open.
        let body = conversation("wait", true);
        let mut reply = system.send("/v1/chat/completions", &body).await.unwrap();
        reply.chunk().await.unwrap().unwrap();
        let mut count = 0;
        for process in &system.processes {
            for connection in connections(process.pid()) {
                assert!(
                    sockopt::tcp_nodelay(&connection).unwrap(),
                    "{connection:?} of {process:?}"
                );
                count += 1;
            }
        }
        // Client to gateway and router to provider; each hop between has two ends more.
        let wanted = if shape == Shape::One { 2 } else { 6 };
        assert!(count >= wanted, "{count} connections in {shape:?}");
        provider.go_on();
        reply.text().await.unwrap();
    }
}

/// Returns copies of the TCP connections that a process holds.
fn connections(pid: Pid) -> Vec<OwnedFd> {
    let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let numbers = std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).unwrap();
    let numbers =
        numbers.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap());
    let copies =
        numbers.filter_map(|number| pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok());
    // Only a connected socket of the internet has both a peer and this option.
    copies
        .filter(|fd| rustix::net::getpeername(fd).is_ok() && sockopt::tcp_nodelay(fd).is_ok())
        .collect()
}
