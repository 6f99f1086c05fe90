//! `patroni_barman`: see `patroni_scripts::barman`.

fn main() {
    std::process::exit(patroni_scripts::barman::main(std::env::args()));
}
