//! `xinqiao`: see `xinqiao --help`.

fn main() -> std::process::ExitCode {
    xinqiao::commands::main()
}
