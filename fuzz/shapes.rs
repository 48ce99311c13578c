//! The CPU engine on any shape: heads, width, tokens, layers, classes and batch come from the fuzzer. A step, a prediction and
//! a rollout equal plain loops; with `--sanitizer address`, nothing outside of the buffers is read or written.
#![no_main]

#[path = "../tests/fused_definition.rs"]
mod definition;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut bytes = input.iter();
    definition::check(|_| bytes.next().copied().unwrap_or(0).into());
});
