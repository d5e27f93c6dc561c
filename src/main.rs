//! The program `ssm-gateway`: the command line, then [`ssm_gateway::cli`].

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    ssm_gateway::cli::main()
}
