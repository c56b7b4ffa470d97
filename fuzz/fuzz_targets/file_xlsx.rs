#![no_main]

libfuzzer_sys::fuzz_target!(|parts: &str| retriever::fuzzing::xlsx(parts));
