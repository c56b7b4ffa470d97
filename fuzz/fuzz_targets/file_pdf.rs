#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| retriever::fuzzing::file("pdf", bytes));
