//! The image that ships in the binary: one tiny static program that prints a greeting, for two architectures.
//!
//! It is made from nothing but this file, so that a first try of a registry needs no network and no other tool. Every byte
//! is determined here: the layer is *stored* in its gzip frame, not compressed, since two versions of a compressor may
//! disagree about the bytes and the digest would change with a dependency.

use std::io::Write as _;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};

use super::source::{ByteStream, RepositorySource, SourceError};
use crate::oci::{Algorithm, Descriptor, Digest, Manifest, Platform, Reference, Tag};

/// What the program of [`greeting_image`] prints.
pub const GREETING: &str = "Hello from a roadstead: this image came to you as plain files.\n";

/// An architecture that [`greeting_elf`] knows the instructions of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// `linux/amd64`
    Amd64,
    /// `linux/arm64`
    Arm64,
}

impl Architecture {
    /// Every architecture.
    pub const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// Its name in image configs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// `e_machine` of the ELF header.
    const fn machine(self) -> u16 {
        match self {
            Self::Amd64 => 62,
            Self::Arm64 => 183,
        }
    }

    /// `write(1, text, len)` and `exit(0)`, for a text that lies right behind these instructions.
    fn code(self, len: u32) -> Vec<u8> {
        match self {
            Self::Amd64 => {
                let [a, b, c, d] = len.to_le_bytes();
                vec![
                    0xb8, 1, 0, 0, 0, // mov eax, 1 (write)
                    0xbf, 1, 0, 0, 0, // mov edi, 1 (standard output)
                    0x48, 0x8d, 0x35, 16, 0, 0, 0, // lea rsi, [rip + 16] (the text)
                    0xba, a, b, c, d, // mov edx, len
                    0x0f, 0x05, // syscall
                    0xb8, 60, 0, 0, 0, // mov eax, 60 (exit)
                    0x31, 0xff, // xor edi, edi
                    0x0f, 0x05, // syscall
                ]
            }
            Self::Arm64 => {
                let (low, high) = (len & 0xffff, len >> 16);
                let (movz, movk_high, svc) = (0xd280_0000, 0xf2a0_0000, 0xd400_0001);
                let adr = |register: u32, distance: u32| 0x1000_0000 | (distance >> 2) << 5 | register;
                let instructions: [u32; 9] = [
                    movz | 64 << 5 | 8, // mov x8, 64 (write)
                    movz | 1 << 5,      // mov x0, 1 (standard output)
                    adr(1, 7 * 4),      // adr x1, the text
                    movz | low << 5 | 2,
                    movk_high | high << 5 | 2, // mov x2, len
                    svc,
                    movz | 93 << 5 | 8, // mov x8, 93 (exit)
                    movz,               // mov x0, 0
                    svc,
                ];
                instructions.iter().flat_map(|instruction| instruction.to_le_bytes()).collect()
            }
        }
    }
}

/// A static Linux program, a few hundred bytes of ELF, that writes `text` to its standard output and exits with 0.
#[must_use]
pub fn greeting_elf(architecture: Architecture, text: &str) -> Vec<u8> {
    const FILE_HEADER: u16 = 64;
    const PROGRAM_HEADER: u16 = 56;
    // The whole file is mapped at once: its headers do no harm in memory, and one mapping needs no padding to pages.
    const BASE: u64 = 0x40_0000;
    const ENTRY_OFFSET: u64 = FILE_HEADER as u64 + 2 * PROGRAM_HEADER as u64;

    let code = architecture.code(u32::try_from(text.len()).unwrap_or(u32::MAX));
    let size = ENTRY_OFFSET + (code.len() + text.len()) as u64;

    let mut elf = Vec::new();
    let half = |elf: &mut Vec<u8>, value: u16| elf.extend(value.to_le_bytes());
    let word = |elf: &mut Vec<u8>, value: u32| elf.extend(value.to_le_bytes());
    let long = |elf: &mut Vec<u8>, value: u64| elf.extend(value.to_le_bytes());

    // e_ident: 64 bits, little-endian, ELF version 1, no particular system.
    elf.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    half(&mut elf, 2); // e_type: an executable at a fixed address
    half(&mut elf, architecture.machine());
    word(&mut elf, 1); // e_version
    long(&mut elf, BASE + ENTRY_OFFSET); // e_entry
    long(&mut elf, FILE_HEADER.into()); // e_phoff
    long(&mut elf, 0); // e_shoff: no sections
    word(&mut elf, 0); // e_flags
    half(&mut elf, FILE_HEADER);
    half(&mut elf, PROGRAM_HEADER);
    half(&mut elf, 2); // e_phnum
    half(&mut elf, 0); // e_shentsize
    half(&mut elf, 0); // e_shnum
    half(&mut elf, 0); // e_shstrndx

    word(&mut elf, 1); // PT_LOAD
    word(&mut elf, 5); // readable, executable
    for value in [0, BASE, BASE, size, size, 0x1_0000] {
        long(&mut elf, value); // offset, addresses, sizes, alignment: 64 KiB, the largest page of arm64
    }
    // Without this header the kernel grants an executable stack, which hardened machines refuse.
    word(&mut elf, 0x6474_e551); // PT_GNU_STACK
    word(&mut elf, 6); // readable, writable
    for value in [0, 0, 0, 0, 0, 16] {
        long(&mut elf, value);
    }

    elf.extend(code);
    elf.extend(text.as_bytes());
    elf
}

/// The quickstart image, ready to be put into a sink: blobs first, then manifests, then the index.
#[derive(Debug, Clone)]
pub struct GreetingImage {
    /// The index of both platforms.
    pub index: Manifest,
    /// Its children, in its order.
    pub manifests: Vec<Manifest>,
    /// Configs and layers.
    pub blobs: Vec<(Descriptor, Bytes)>,
}

/// An OCI index of `linux/amd64` and `linux/arm64`, whose only file is a program that prints [`GREETING`].
#[must_use]
pub fn greeting_image() -> GreetingImage {
    let mut blobs = Vec::new();
    let mut manifests = Vec::new();
    let mut entries = Vec::new();
    for architecture in Architecture::ALL {
        let (config, layer, manifest) = platform_image(architecture);
        entries.push(format!(
            r#"{{"mediaType":"{}","digest":"{}","size":{},"platform":{{"architecture":"{}","os":"linux"}}}}"#,
            manifest.media_type(),
            manifest.digest(),
            manifest.bytes().len(),
            architecture.as_str()
        ));
        blobs.extend([config, layer]);
        manifests.push(manifest);
    }
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{}],"annotations":{{"org.opencontainers.image.title":"hello","org.opencontainers.image.description":"Prints a greeting"}}}}"#,
        entries.join(",")
    );
    GreetingImage { index: parse(index), manifests, blobs }
}

fn platform_image(architecture: Architecture) -> ((Descriptor, Bytes), (Descriptor, Bytes), Manifest) {
    let archive = archive(&greeting_elf(architecture, GREETING));
    let layer = stored_gzip(&archive);
    let config = Bytes::from(format!(
        r#"{{"created":"1970-01-01T00:00:00Z","architecture":"{}","os":"linux","config":{{"Entrypoint":["/hello"]}},"rootfs":{{"type":"layers","diff_ids":["{}"]}},"history":[{{"created":"1970-01-01T00:00:00Z","created_by":"roadstead quickstart"}}]}}"#,
        architecture.as_str(),
        Algorithm::Sha256.digest(&archive)
    ));
    let describe = |media_type: &str, bytes: &Bytes| {
        Descriptor::new(media_type, Algorithm::Sha256.digest(bytes), bytes.len() as u64)
    };
    let config = (describe("application/vnd.oci.image.config.v1+json", &config), config);
    let layer = (describe("application/vnd.oci.image.layer.v1.tar+gzip", &layer), layer);
    let entry = |descriptor: &Descriptor, size: usize| {
        format!(r#"{{"mediaType":"{}","digest":"{}","size":{size}}}"#, descriptor.media_type, descriptor.digest)
    };
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{}]}}"#,
        entry(&config.0, config.1.len()),
        entry(&layer.0, layer.1.len())
    );
    (config, layer, parse(manifest))
}

fn parse(json: String) -> Manifest {
    Manifest::parse(json.into(), Algorithm::Sha256).expect("a manifest written above is valid")
}

/// A tar archive with the program as its only entry.
fn archive(program: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(program.len() as u64);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, "hello", program).expect("a vector takes every write");
    archive.into_inner().expect("a vector takes every write")
}

fn stored_gzip(content: &[u8]) -> Bytes {
    let mut encoder = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::none());
    encoder.write_all(content).expect("a vector takes every write");
    encoder.finish().expect("a vector takes every write").into()
}

/// The platforms of [`greeting_image`], in the order of its index.
#[must_use]
pub fn greeting_platforms() -> Vec<Platform> {
    Architecture::ALL.iter().map(|architecture| Platform::new("linux", architecture.as_str(), None, None)).collect()
}

/// The image as a source of one image, whatever repository is asked for: what a tree is first filled with.
#[async_trait]
impl RepositorySource for GreetingImage {
    fn describe(&self, _: &Reference) -> String {
        "the greeting image".to_owned()
    }

    async fn resolve(&self, _: &Reference) -> Result<Descriptor, SourceError> {
        Ok(self.index.descriptor())
    }

    async fn manifest(&self, expected: &Descriptor) -> Result<Manifest, SourceError> {
        let found = std::iter::once(&self.index).chain(&self.manifests).find(|m| *m.digest() == expected.digest);
        found.cloned().ok_or_else(|| absent(expected))
    }

    async fn blob(&self, expected: &Descriptor, from: u64) -> Result<ByteStream, SourceError> {
        let found = self.blobs.iter().find(|(blob, _)| blob.digest == expected.digest);
        let (_, bytes) = found.ok_or_else(|| absent(expected))?;
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
        let rest = bytes.slice(from..);
        Ok(stream::once(async { Ok(rest) }).boxed())
    }

    fn tags(&self) -> BoxStream<'_, Result<Tag, SourceError>> {
        stream::once(async { Ok(Tag::latest()) }).boxed()
    }

    async fn referrers(&self, _: &Digest) -> Result<Vec<Descriptor>, SourceError> {
        Ok(Vec::new())
    }
}

fn absent(descriptor: &Descriptor) -> SourceError {
    SourceError::NotFound { what: descriptor.digest.to_string(), source: None }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    /// Runs a program from a file and returns what it printed.
    fn run(program: &[u8]) -> (Vec<u8>, Option<i32>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hello");
        std::fs::write(&path, program).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        // Another thread of this test program that forks while the file is open for writing keeps it busy for a moment.
        let output = loop {
            match Command::new(&path).stderr(Stdio::inherit()).output() {
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
                other => break other.unwrap(),
            }
        };
        (output.stdout, output.status.code())
    }

    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    #[test]
    fn the_program_of_this_machine_prints_its_text_and_succeeds() {
        let own = if cfg!(target_arch = "x86_64") { Architecture::Amd64 } else { Architecture::Arm64 };
        let long = "word ".repeat(20_000);
        for text in ["", "ahoy\n", GREETING, &long] {
            let (printed, status) = run(&greeting_elf(own, text));
            assert_eq!(String::from_utf8_lossy(&printed), text);
            assert_eq!(status, Some(0), "{text:?}");
        }
    }

    #[test]
    fn the_arm64_program_is_what_an_assembler_makes() {
        // As `aarch64-linux-gnu-as` assembles the instructions named in the comments above, for 5 bytes of text.
        let expected: [u32; 9] = [
            0xd280_0808,
            0xd280_0020,
            0x1000_00e1,
            0xd280_00a2,
            0xf2a0_0002,
            0xd400_0001,
            0xd280_0ba8,
            0xd280_0000,
            0xd400_0001,
        ];
        let expected: Vec<u8> = expected.iter().flat_map(|instruction| instruction.to_le_bytes()).collect();
        let elf = greeting_elf(Architecture::Arm64, "ahoy\n");
        assert_eq!(elf[176..176 + 36], expected);
        assert_eq!(&elf[176 + 36..], b"ahoy\n");
    }

    #[test]
    fn the_image_never_changes() {
        let image = greeting_image();
        assert_eq!(
            image.index.digest().to_string(),
            "sha256:9e9b5019a3aa95541eb1e8fb343db06b6f489440fc5d54eaaba8066d7c57bc29"
        );
        let platforms: Vec<_> = image.index.children().map(|child| child.platform.clone().unwrap()).collect();
        assert_eq!(platforms, greeting_platforms());
    }

    #[test]
    fn the_image_holds_what_it_names() {
        let image = greeting_image();
        let named: Vec<_> = image.index.children().map(|child| (child.digest, child.size)).collect();
        let held: Vec<_> = image.manifests.iter().map(|m| (*m.digest(), Some(m.bytes().len() as u64))).collect();
        assert_eq!(named, held);
        let named: Vec<_> = image.manifests.iter().flat_map(Manifest::blobs).cloned().collect();
        let held: Vec<_> = image.blobs.iter().map(|(descriptor, _)| descriptor.clone()).collect();
        assert_eq!(named, held);
        for (descriptor, bytes) in &image.blobs {
            assert_eq!(Algorithm::Sha256.digest(bytes), descriptor.digest);
            assert_eq!(Some(bytes.len() as u64), descriptor.size);
        }
    }

    #[test]
    fn the_layer_holds_the_program_and_nothing_else() {
        for (architecture, (_, layer)) in
            Architecture::ALL.into_iter().zip(greeting_image().blobs.iter().skip(1).step_by(2))
        {
            let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&layer[..]));
            let mut entries = archive.entries().unwrap();
            let mut entry = entries.next().unwrap().unwrap();
            assert_eq!(entry.path_bytes().as_ref(), b"hello");
            assert_eq!(entry.header().mode().unwrap(), 0o755);
            let mut program = Vec::new();
            entry.read_to_end(&mut program).unwrap();
            assert_eq!(program, greeting_elf(architecture, GREETING));
            assert!(entries.next().is_none());
        }
    }
}
