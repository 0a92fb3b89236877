//! End-to-end tests live in `suite/`. Here are the servers that some of them talk to: fakes of what
//! cannot be installed, each with a small program in `bin/` to use it by hand.

pub mod fakes;
