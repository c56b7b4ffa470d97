#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| router::fuzzing::price(text));
