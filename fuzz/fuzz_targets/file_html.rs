#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| retriever::fuzzing::file("html", text.as_bytes()));
