#![no_main]

use proto::router::Dialect;

libfuzzer_sys::fuzz_target!(|body: &[u8]| router::fuzzing::request(Dialect::ChatCompletions, body));
