//! End-to-end tests live in `suite/`. Here are services of others, played: what cannot be installed
//! where tests run. Each has a small program in `bin/` to use it by hand.

#![expect(
    clippy::unwrap_used,
    reason = "a fake that cannot go on fails where it stands"
)]

pub mod fakes;
