//! The program `ssm-gateway`.

fn main() {}
