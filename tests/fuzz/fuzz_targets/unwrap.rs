#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xinqiao_fuzz::formats::unwrap(data));
