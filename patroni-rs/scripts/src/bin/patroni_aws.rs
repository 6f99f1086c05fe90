//! `patroni_aws`: see `patroni_scripts::aws`.

fn main() {
    std::process::exit(patroni_scripts::aws::main(std::env::args()));
}
