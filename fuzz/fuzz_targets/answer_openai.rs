#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| router::fuzzing::chat_completions(bytes));
