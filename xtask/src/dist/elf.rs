//! Whether a program stands alone: what its ELF headers ask of the host before it can run.
//!
//! Reads the program header and the dynamic section (elf(5)) of a 64-bit little-endian file, nothing else. A static
//! program may have a dynamic section, if it can be loaded anywhere (static-pie); what counts is that it names neither
//! a loader nor a library. Invariant: bytes that are no ELF file are an error, never a program that stands alone.

/// Program header: the path of the loader.
const PT_INTERP: u32 = 3;
/// Program header: the dynamic section.
const PT_DYNAMIC: u32 = 2;
/// Entry of the dynamic section: the end.
const DT_NULL: u64 = 0;
/// Entry of the dynamic section: a library.
const DT_NEEDED: u64 = 1;

const TRUNCATED: &str = "the headers end before they are complete";

/// What the program needs from the host, in words; `None` is nothing.
///
/// # Errors
/// Says why the bytes cannot be judged.
pub(super) fn needs(program: &[u8]) -> Result<Option<String>, String> {
    if !program.starts_with(b"\x7fELF\x02\x01") {
        return Err("it is no 64-bit ELF file".to_owned());
    }
    let table = number(program, 32, 8)?;
    let (size, count) = (number(program, 54, 2)?, number(program, 56, 2)?);
    let mut libraries = 0;
    for index in 0..count {
        let header = at(table, size, index)?;
        let kind = number(program, header, 4)? as u32;
        let (offset, length) = (number(program, header + 8, 8)?, number(program, header + 32, 8)?);
        if kind == PT_INTERP {
            let path = at(offset, length, 1).ok().and_then(|end| program.get(offset as usize..end));
            let path = String::from_utf8_lossy(path.ok_or(TRUNCATED)?).into_owned();
            return Ok(Some(format!("the loader {}", path.trim_end_matches('\0'))));
        }
        if kind == PT_DYNAMIC {
            libraries += count_libraries(program, offset, length)?;
        }
    }
    Ok((libraries > 0).then(|| format!("{libraries} shared libraries")))
}

fn count_libraries(program: &[u8], offset: u64, length: u64) -> Result<usize, String> {
    let mut libraries = 0;
    for index in 0..length / 16 {
        match number(program, at(offset, 16, index)?, 8)? {
            DT_NULL => break,
            DT_NEEDED => libraries += 1,
            _ => {}
        }
    }
    Ok(libraries)
}

/// Where the entry `index` of a table lies.
fn at(table: u64, size: u64, index: u64) -> Result<usize, String> {
    let place = size.checked_mul(index).and_then(|offset| table.checked_add(offset));
    place.filter(|&place| place < 1 << 40).map(|place| place as usize).ok_or(TRUNCATED.to_owned())
}

fn number(program: &[u8], place: usize, length: usize) -> Result<u64, String> {
    let bytes = program.get(place..place + length).ok_or(TRUNCATED)?;
    Ok(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with these program headers behind it: kind, offset, length.
    fn elf(headers: &[(u32, u64, u64)], rest: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01".to_vec();
        bytes.resize(32, 0);
        bytes.extend(64_u64.to_le_bytes());
        bytes.resize(54, 0);
        bytes.extend(56_u16.to_le_bytes());
        bytes.extend((headers.len() as u16).to_le_bytes());
        bytes.resize(64, 0);
        for (kind, offset, length) in headers {
            let start = bytes.len();
            bytes.extend(kind.to_le_bytes());
            bytes.resize(start + 8, 0);
            bytes.extend(offset.to_le_bytes());
            bytes.resize(start + 32, 0);
            bytes.extend(length.to_le_bytes());
            bytes.resize(start + 56, 0);
        }
        bytes.extend(rest);
        bytes
    }

    #[test]
    fn loaders_and_libraries_are_found() {
        assert_eq!(needs(&elf(&[], b"")), Ok(None));
        assert_eq!(needs(&elf(&[(1, 0, 0)], b"")), Ok(None));
        let loaded = elf(&[(1, 0, 0), (PT_INTERP, 176, 6)], b"/ld.so\0");
        assert_eq!(needs(&loaded), Ok(Some("the loader /ld.so".to_owned())));
        let dynamic = |tags: &[u64]| {
            let section: Vec<u8> = tags.iter().flat_map(|tag| [*tag, 0]).flat_map(u64::to_le_bytes).collect();
            needs(&elf(&[(PT_DYNAMIC, 120, section.len() as u64)], &section))
        };
        assert_eq!(dynamic(&[5, DT_NULL, DT_NEEDED]), Ok(None));
        assert_eq!(dynamic(&[DT_NEEDED, 5, DT_NEEDED, DT_NULL]), Ok(Some("2 shared libraries".to_owned())));
    }

    #[test]
    fn the_tests_themselves_need_a_loader() {
        let this = std::fs::read("/proc/self/exe").expect("a process can read its program");
        assert!(needs(&this).is_ok_and(|needs| needs.is_some_and(|needs| needs.starts_with("the loader /"))));
    }

    #[test]
    fn what_is_no_program_is_an_error() {
        assert!(needs(b"#!/bin/sh\n").is_err());
        assert!(needs(b"").is_err());
        let whole = elf(&[(PT_INTERP, 120, 6)], b"/ld.so");
        for end in 0..whole.len() {
            assert!(needs(&whole[..end]).is_err(), "{end} bytes");
        }
        assert!(needs(&elf(&[(PT_INTERP, u64::MAX, u64::MAX)], b"")).is_err());
    }
}
