//! The process that reads one document.

use std::ffi::OsString;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::process::ExitCode;

use super::{Cut, Order, Reply, WORKER, limits};

/// What passages and the headings above them may take together, in bytes.
const MOST_HEADINGS: usize = 32 * 1024 * 1024;

/// Works and returns how to exit, if this process was started by the retriever to parse one document;
/// a program's `main` calls it before it does anything else.
#[must_use]
pub fn parse_worker(arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.skip(1);
    if arguments.next()? != WORKER {
        return None;
    }
    let mut number = || arguments.next()?.to_str()?.parse::<u64>().ok();
    let limits = number().zip(number());
    // What panics may tell what it read.
    std::panic::set_hook(Box::new(|panic| match panic.location() {
        Some(place) => eprintln!("panicked at {place}"),
        None => eprintln!("panicked"),
    }));
    let worked = limits
        .ok_or_else(|| io::Error::other("its limits are missing"))
        .and_then(|(memory, seconds)| limits::confine(memory, seconds))
        .and_then(|()| work());
    Some(match worked {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    })
}

fn work() -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut line = String::new();
    input.read_line(&mut line)?;
    let order: Order = serde_json::from_str(&line)?;
    let mut content = Vec::with_capacity(order.bytes);
    input.read_to_end(&mut content)?;
    if content.len() != order.bytes {
        return Err(io::Error::other("a part of the document is missing"));
    }
    let (reply, text) = match cut(&order, &content) {
        Ok(Cut { text, chunks }) => (Reply::Cut { bytes: text.len(), chunks }, text),
        Err(why) => (Reply::Refused(why), String::new()),
    };
    let mut output = io::stdout().lock();
    serde_json::to_writer(&mut output, &reply)?;
    output.write_all(b"\n")?;
    output.write_all(text.as_bytes())?;
    output.flush()
}

fn cut(order: &Order, content: &[u8]) -> Result<Cut, String> {
    let source = &order.source;
    let cut = Cut::of(source, &order.media_type, content).map_err(|fault| fault.to_string())?;
    let headings = |chunk: &crate::chunk::Chunk| {
        chunk.headings.iter().map(String::len).sum::<usize>() + size_of_val(chunk)
    };
    if cut.chunks.iter().map(headings).sum::<usize>() > MOST_HEADINGS {
        return Err(format!(
            "{source:?} cannot be read: its passages and their headings take more than {MOST_HEADINGS} bytes"
        ));
    }
    Ok(cut)
}
