#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| aba_lock::properties::name(bytes));
