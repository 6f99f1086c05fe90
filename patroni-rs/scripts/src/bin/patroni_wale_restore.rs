//! `patroni_wale_restore`: see `patroni_scripts::wale`.

fn main() {
    std::process::exit(patroni_scripts::wale::main(std::env::args()));
}
