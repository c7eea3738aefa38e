//! This runtime does what every runtime must.

use villein_rt_smol::Smol;

#[test]
fn it_conforms() {
    villein_host::conformance::all(villein_rt_smol::run);
}

#[test]
fn its_connections_conform() {
    async_io::block_on(villein_host::connections::<Smol>());
}
