// SPDX-License-Identifier: GPL-2.0-only

//! Builds BTF for tests, as `include/uapi/linux/btf.h` lays it out.

pub const INT: u32 = 1;
pub const PTR: u32 = 2;
pub const STRUCT: u32 = 4;
pub const UNION: u32 = 5;
pub const ENUM: u32 = 6;
pub const TYPEDEF: u32 = 8;
pub const FUNC_PROTO: u32 = 13;

/// BTF under construction.
#[derive(Default)]
pub struct Builder {
    types: Vec<u32>,
    strings: Vec<u8>,
    count: u32,
}

impl Builder {
    pub fn new() -> Self {
        Self {
            strings: vec![0],
            ..Self::default()
        }
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend(name.as_bytes());
        self.strings.push(0);
        at
    }

    /// Adds a type and returns its id.
    pub fn push(&mut self, name: &str, info: u32, size_or_type: u32, rest: &[u32]) -> u32 {
        let name = self.name(name);
        self.types.extend([name, info, size_or_type]);
        self.types.extend(rest);
        self.count += 1;
        self.count
    }

    pub fn int(&mut self, name: &str, size: u32, width: u32) -> u32 {
        self.push(name, INT << 24, size, &[width])
    }

    pub fn pointer(&mut self) -> u32 {
        self.push("", PTR << 24, 0, &[])
    }

    /// `members`: name, type id, offset in bits.
    pub fn compound(
        &mut self,
        kind: u32,
        name: &str,
        size: u32,
        members: &[(&str, u32, u32)],
    ) -> u32 {
        let count = u32::try_from(members.len()).unwrap();
        let rest: Vec<u32> = members
            .iter()
            .flat_map(|&(name, ty, bits)| [self.name(name), ty, bits])
            .collect();
        self.push(name, kind << 24 | count, size, &rest)
    }

    /// A structure with the flag that gives each offset a bit-field width in its upper byte.
    pub fn packed(&mut self, name: &str, size: u32, members: &[(&str, u32, u32, u32)]) -> u32 {
        let count = u32::try_from(members.len()).unwrap();
        let rest: Vec<u32> = members
            .iter()
            .flat_map(|&(name, ty, bits, width)| [self.name(name), ty, width << 24 | bits])
            .collect();
        self.push(name, 1 << 31 | STRUCT << 24 | count, size, &rest)
    }

    pub fn enumeration(&mut self, name: &str, values: &[(&str, u32)]) -> u32 {
        let count = u32::try_from(values.len()).unwrap();
        let rest: Vec<u32> = values
            .iter()
            .flat_map(|&(name, value)| [self.name(name), value])
            .collect();
        self.push(name, ENUM << 24 | count, 4, &rest)
    }

    pub fn finish(self) -> Vec<u8> {
        let type_len = u32::try_from(self.types.len() * 4).unwrap();
        let str_len = u32::try_from(self.strings.len()).unwrap();
        let mut out = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, type_len, type_len, str_len]
            .into_iter()
            .chain(self.types)
        {
            out.extend(u32::to_le_bytes(word));
        }
        out.extend(self.strings);
        out
    }
}
