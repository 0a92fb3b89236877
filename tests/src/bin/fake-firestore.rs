//! Firestore played, by hand: `fake-firestore [ADDRESS]` serves until it is stopped; then
//! `FIRESTORE_EMULATOR_HOST=ADDRESS hucha snapshot --source firestore://project`.

use hucha_tests::fakes::firestore::{Fake, Guard};

fn main() {
    let address = std::env::args().nth(1);
    let fake = Fake::start_at(
        Guard::Emulator,
        address.as_deref().unwrap_or("127.0.0.1:8080"),
    );
    println!("export FIRESTORE_EMULATOR_HOST={}", fake.address());
    loop {
        std::thread::park();
    }
}
