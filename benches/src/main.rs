//! Benchmarks of hucha. `profiles` measures what chunk sizes cost: growth over nights of a seeded
//! corpus, number of chunks (rows of the index), and time. Timings are printed as ratios to the
//! first line of the same run, and decide nothing.
//!
//! Run with `cargo run --release -p hucha-benches -- profiles [NIGHTS]`.

mod corpus;
mod profiles;

fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("profiles") => {
            let nights = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(4);
            print!("{}", profiles::table(nights));
            std::process::ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: hucha-benches profiles [NIGHTS]");
            std::process::ExitCode::from(2)
        }
    }
}
