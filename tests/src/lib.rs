//! End-to-end tests live in `suite/`. Here is what they share with programs for use by hand:
//! services of others, played.

#![expect(
    clippy::unwrap_used,
    reason = "a fake that cannot go on fails where it stands"
)]

pub mod fakes;
