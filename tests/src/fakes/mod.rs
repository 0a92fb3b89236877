//! Services of others that no test can have, played as far as hucha uses them.

pub mod firestore;
