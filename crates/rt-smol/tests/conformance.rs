//! This runtime does what every runtime must.

#[test]
fn it_conforms() {
    villein_host::conformance::all(villein_rt_smol::run);
}
