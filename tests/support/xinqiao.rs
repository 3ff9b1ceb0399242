//! `xinqiao`, as `gateway/server/src/main.rs` has it.

fn main() -> std::process::ExitCode {
    xinqiao::commands::main()
}
