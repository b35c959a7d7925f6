//! Compiles `bpf/*.bpf.c` with clang and generates their Rust skeletons in `OUT_DIR`.

fn main() {
    #[cfg(feature = "bpf")]
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        bpf::build();
    }
}

#[cfg(feature = "bpf")]
mod bpf {
    use std::env;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};

    use libbpf_cargo::SkeletonBuilder;

    /// The versions to try in the names of clang, as Debian has them; 14 is the oldest that works.
    const VERSIONS: std::ops::RangeInclusive<u32> = 14..=30;

    pub(crate) fn build() {
        println!("cargo::rerun-if-changed=bpf");
        println!("cargo::rerun-if-env-changed=CLANG");
        let clang = clang();
        let out = PathBuf::from(variable("OUT_DIR"));
        // Set by libbpf-sys: the headers of the libbpf that it built.
        let headers = variable("DEP_BPF_INCLUDE");
        let sources = std::fs::read_dir("bpf").unwrap_or_else(|error| panic!("cannot read bpf/: {error}"));
        for source in sources.flatten().map(|entry| entry.path()) {
            let Some(name) = source.file_name().and_then(|name| name.to_str()?.strip_suffix(".bpf.c")) else {
                continue;
            };
            compile(&clang, &source, &headers, &out.join(format!("{name}.skel.rs")));
        }
    }

    fn compile(clang: &Path, source: &Path, headers: &str, skeleton: &Path) {
        SkeletonBuilder::new()
            .source(source)
            .clang(clang)
            .clang_args(["-mcpu=v3", "-Wall", "-Wextra", "-I", headers])
            .build_and_generate(skeleton)
            .unwrap_or_else(|error| panic!("{}: {error:?}", source.display()));
    }

    fn clang() -> PathBuf {
        if let Some(clang) = env::var_os("CLANG") {
            return clang.into();
        }
        let works = |name: &String| {
            let mut command = Command::new(name);
            command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let versioned = VERSIONS.rev().map(|version| format!("clang-{version}"));
        let Some(name) = std::iter::once("clang".to_owned()).chain(versioned).find(works) else {
            panic!(
                "no clang found, which compiles the eBPF programs. Install it (Debian and Ubuntu: apt install \
                 clang; Fedora: dnf install clang; Arch: pacman -S clang), name one in CLANG, or build \
                 without eBPF by --no-default-features --features sqlite,http"
            );
        };
        name.into()
    }

    fn variable(name: &str) -> String {
        env::var(name).unwrap_or_else(|_| panic!("cargo did not set {name}"))
    }
}
