//! How the library is linked: it is never unloaded, since threads' exits and forks lead back into it.
fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo:rerun-if-changed=build.rs");
}
