#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ftpalg_fuzz::checks::hostile::check(input));
