// SPDX-License-Identifier: GPL-2.0-only

//! A reader of the BPF Type Format, as far as structure layouts need it.
//!
//! Source of the format: `include/uapi/linux/btf.h` and `Documentation/bpf/btf.rst`. Kinds that
//! are not known are an error, since their length is not known either.

const MAGIC: u16 = 0xeb9f;
const HEADER_MIN: usize = 24;

const KIND_INT: u32 = 1;
const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FWD: u32 = 7;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// Longest chain of typedefs, qualifiers or nested anonymous members that is followed.
const MAX_DEPTH: usize = 32;

/// Whether `data` starts with the magic number of little-endian BTF.
pub(crate) fn is_btf(data: &[u8]) -> bool {
    data.get(..2) == Some(&MAGIC.to_le_bytes())
}

/// Size of a pointer on the 64-bit kernels this is for, in bytes.
const POINTER: usize = 8;

/// What kind of thing a field, parameter or result is, after typedefs and qualifiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Nothing: the result of a function that has none.
    Void,
    /// An integer, `bool` included, of that many bytes.
    Int(usize),
    /// An enumeration of that many bytes.
    Enum(usize),
    /// The structure of that name, embedded.
    Struct(String),
    /// An array without a length: as many structures of that name as there is room for.
    Flexible(String),
    /// A pointer to the structure of that name; to anything else if the name is empty.
    Pointer(String),
    /// A pointer to a function: parameters, then result.
    Function(Vec<Shape>, Box<Shape>),
}

/// Where a field is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Field {
    /// Offset from the start of the named structure, in bytes.
    pub(crate) offset: usize,
    /// Its size in bytes.
    pub(crate) size: usize,
    /// What it holds.
    pub(crate) shape: Shape,
}

struct Type<'a> {
    name: &'a str,
    kind: u32,
    kind_flag: bool,
    size_or_type: u32,
    /// The words that follow the three every type has.
    rest: Vec<u32>,
}

/// Parsed BTF.
///
/// # Invariants
///
/// `types[i]` is the type with id `i + 1`; every `rest` has the length its kind and count ask for.
pub(crate) struct Btf<'a> {
    types: Vec<Type<'a>>,
    strings: &'a [u8],
}

struct Words<'a> {
    data: &'a [u8],
    at: usize,
}

impl Words<'_> {
    fn next(&mut self) -> Result<u32, String> {
        let bytes = self
            .data
            .get(self.at..)
            .and_then(|rest| rest.first_chunk::<4>())
            .ok_or("truncated BTF")?;
        self.at += 4;
        Ok(u32::from_le_bytes(*bytes))
    }
}

fn string(strings: &[u8], offset: u32) -> Result<&str, String> {
    let rest = usize::try_from(offset)
        .ok()
        .and_then(|offset| strings.get(offset..))
        .ok_or("BTF name outside the string section")?;
    let end = rest
        .iter()
        .position(|&b| b == 0)
        .ok_or("BTF name without an end")?;
    std::str::from_utf8(&rest[..end]).map_err(|_| "BTF name is not UTF-8".into())
}

fn range(data: &[u8], start: usize, offset: u32, len: u32) -> Result<&[u8], String> {
    let outside = || "BTF section outside the file".to_string();
    let begin = start
        .checked_add(usize::try_from(offset).map_err(|_| outside())?)
        .ok_or_else(outside)?;
    let end = begin
        .checked_add(usize::try_from(len).map_err(|_| outside())?)
        .ok_or_else(outside)?;
    data.get(begin..end).ok_or_else(outside)
}

impl<'a> Btf<'a> {
    /// Parses raw BTF.
    ///
    /// # Errors
    ///
    /// Truncated or inconsistent data, another version than 1, an unknown kind.
    pub(crate) fn parse(data: &'a [u8]) -> Result<Self, String> {
        if !is_btf(data) {
            return Err("not BTF".into());
        }
        if data.len() < HEADER_MIN || data[2] != 1 {
            return Err("BTF header of an unknown version".into());
        }
        let mut header = Words { data, at: 4 };
        let header_len = usize::try_from(header.next()?).map_err(|_| "BTF header too long")?;
        if header_len < HEADER_MIN {
            return Err("BTF header too short".into());
        }
        let (type_off, type_len) = (header.next()?, header.next()?);
        let (str_off, str_len) = (header.next()?, header.next()?);
        let strings = range(data, header_len, str_off, str_len)?;
        let mut words = Words {
            data: range(data, header_len, type_off, type_len)?,
            at: 0,
        };
        let mut types = Vec::new();
        while words.at < words.data.len() {
            let name = string(strings, words.next()?)?;
            let info = words.next()?;
            let size_or_type = words.next()?;
            let kind = (info >> 24) & 0x7f;
            let count = info & 0x00ff_ffff;
            let following = match kind {
                KIND_INT | KIND_VAR | KIND_DECL_TAG => 1,
                KIND_ARRAY => 3,
                KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 3 * count,
                KIND_ENUM | KIND_FUNC_PROTO => 2 * count,
                1..=KIND_ENUM64 => 0,
                _ => return Err(format!("BTF kind {kind} is not known")),
            };
            let rest = (0..following)
                .map(|_| words.next())
                .collect::<Result<_, _>>()?;
            let kind_flag = info >> 31 == 1;
            types.push(Type {
                name,
                kind,
                kind_flag,
                size_or_type,
                rest,
            });
        }
        Ok(Self { types, strings })
    }

    fn name(&self, offset: u32) -> Result<&'a str, String> {
        string(self.strings, offset)
    }

    fn by_id(&self, id: u32) -> Result<&Type<'a>, String> {
        usize::try_from(id)
            .ok()
            .and_then(|id| self.types.get(id.checked_sub(1)?))
            .ok_or_else(|| format!("BTF type {id} does not exist"))
    }

    /// Follows typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Result<&Type<'a>, String> {
        for _ in 0..MAX_DEPTH {
            let ty = self.by_id(id)?;
            match ty.kind {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = ty.size_or_type;
                }
                _ => return Ok(ty),
            }
        }
        Err(format!("BTF type {id} never ends"))
    }

    /// The one definition of `kind` named `name`.
    fn unique(&self, kind: u32, name: &str) -> Result<&Type<'a>, String> {
        let mut all = self
            .types
            .iter()
            .filter(|t| t.kind == kind && t.name == name);
        match (all.next(), all.next()) {
            (Some(ty), None) => Ok(ty),
            (None, _) => Err(format!("{name} is not in this kernel's BTF")),
            (Some(_), Some(_)) => Err(format!(
                "{name} is defined more than once in this kernel's BTF"
            )),
        }
    }

    /// Size in bytes of the structure `name`.
    ///
    /// # Errors
    ///
    /// There is none, or more than one.
    pub(crate) fn size_of(&self, name: &str) -> Result<usize, String> {
        usize::try_from(self.unique(KIND_STRUCT, name)?.size_or_type)
            .map_err(|_| format!("struct {name} is too large"))
    }

    /// Value of the enumerator `name` of `enum enumeration`.
    ///
    /// # Errors
    ///
    /// No such enumeration or enumerator.
    pub(crate) fn enumerator(&self, enumeration: &str, name: &str) -> Result<u32, String> {
        let ty = self.unique(KIND_ENUM, enumeration)?;
        for pair in ty.rest.chunks_exact(2) {
            if self.name(pair[0])? == name {
                return Ok(pair[1]);
            }
        }
        Err(format!("enum {enumeration} has no {name}"))
    }

    /// Looks up a field of the structure `name`, also inside its anonymous members.
    ///
    /// # Errors
    ///
    /// The structure or the field is missing or there twice, or the field is a bit-field.
    pub(crate) fn field(&self, name: &str, field: &str) -> Result<Field, String> {
        let ty = self.unique(KIND_STRUCT, name)?;
        let mut found = Vec::new();
        self.collect(ty, field, 0, MAX_DEPTH, &mut found)
            .map_err(|e| format!("struct {name}: {e}"))?;
        let [(bits, type_id)] = found[..] else {
            return Err(match found.len() {
                0 => format!("struct {name} has no field {field}"),
                _ => format!("struct {name} has more than one field {field}"),
            });
        };
        if bits % 8 != 0 {
            return Err(format!("{name}.{field} does not start at a byte"));
        }
        let offset = bits / 8;
        let (shape, size) = self
            .shape(type_id)
            .and_then(|shape| Ok((shape, self.size(type_id)?)))
            .map_err(|e| format!("{name}.{field}: {e}"))?;
        let end = offset.checked_add(size);
        if end.is_none_or(|end| end > self.size_of(name).unwrap_or(0)) {
            return Err(format!("{name}.{field} lies outside the structure"));
        }
        // Structures are at least as aligned as what they begin with; the kernel's are not packed.
        if !matches!(shape, Shape::Struct(_)) && offset % size.max(1) != 0 {
            return Err(format!("{name}.{field} is not aligned"));
        }
        Ok(Field {
            offset,
            size,
            shape,
        })
    }

    /// Adds `(offset in bits, type id)` of each member called `field`.
    fn collect(
        &self,
        ty: &Type<'a>,
        field: &str,
        base: usize,
        depth: usize,
        found: &mut Vec<(usize, u32)>,
    ) -> Result<(), String> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err("members nested too deeply".into());
        };
        for member in ty.rest.chunks_exact(3) {
            let (name, type_id, at) = (self.name(member[0])?, member[1], member[2]);
            // With the flag set, the upper byte is the width of a bit-field.
            let (width, at) = if ty.kind_flag {
                (at >> 24, at & 0x00ff_ffff)
            } else {
                (0, at)
            };
            let at = usize::try_from(at)
                .ok()
                .and_then(|at| base.checked_add(at))
                .ok_or("member offset out of range")?;
            if name == field {
                if width != 0 {
                    return Err(format!("{field} is a bit-field"));
                }
                found.push((at, type_id));
            } else if name.is_empty() && width == 0 {
                let inner = self.resolve(type_id)?;
                if matches!(inner.kind, KIND_STRUCT | KIND_UNION) {
                    self.collect(inner, field, at, depth, found)?;
                }
            }
        }
        Ok(())
    }

    /// Size in bytes of a type that a field may have.
    fn size(&self, type_id: u32) -> Result<usize, String> {
        let ty = self.resolve(type_id)?;
        match ty.kind {
            KIND_PTR => Ok(POINTER),
            _ => usize::try_from(ty.size_or_type).map_err(|_| "type too large".into()),
        }
    }

    /// The shape of a field, parameter or result.
    fn shape(&self, type_id: u32) -> Result<Shape, String> {
        if type_id == 0 {
            return Ok(Shape::Void);
        }
        let ty = self.resolve(type_id)?;
        match ty.kind {
            KIND_PTR => self.pointee(ty.size_or_type),
            KIND_INT => {
                let size = self.size(type_id)?;
                // Old-style bit-fields hide in the integer: offset in bits 16 to 23, width below.
                let word = ty.rest[0];
                let (offset, width) = ((word >> 16) & 0xff, word & 0xff);
                if offset != 0 || usize::try_from(width) != Ok(size * 8) {
                    return Err("it is a bit-field".into());
                }
                Ok(Shape::Int(size))
            }
            KIND_ENUM => Ok(Shape::Enum(self.size(type_id)?)),
            KIND_STRUCT => Ok(Shape::Struct(ty.name.into())),
            // Type of an element, type of an index, number of elements.
            KIND_ARRAY if ty.rest[2] == 0 => match self.resolve(ty.rest[0])? {
                element if element.kind == KIND_STRUCT => Ok(Shape::Flexible(element.name.into())),
                _ => Err("it is an array of something else than structures".into()),
            },
            KIND_ARRAY => Err("it is an array of a fixed length".into()),
            kind => Err(format!("BTF kind {kind} is not expected here")),
        }
    }

    /// The shape of a pointer to `type_id`. What pointers among its parameters point to in turn is
    /// looked at as far as it is a structure, so this ends.
    fn pointee(&self, type_id: u32) -> Result<Shape, String> {
        if type_id == 0 {
            return Ok(Shape::Pointer(String::new()));
        }
        let ty = self.resolve(type_id)?;
        match ty.kind {
            KIND_STRUCT | KIND_FWD => Ok(Shape::Pointer(ty.name.into())),
            KIND_FUNC_PROTO => {
                let parameters = ty.rest.chunks_exact(2).map(|p| self.parameter(p[1]));
                let parameters = parameters.collect::<Result<_, _>>()?;
                Ok(Shape::Function(
                    parameters,
                    Box::new(self.parameter(ty.size_or_type)?),
                ))
            }
            _ => Ok(Shape::Pointer(String::new())),
        }
    }

    /// The shape of a parameter or result; of a pointer to a function, only that it is a pointer.
    fn parameter(&self, type_id: u32) -> Result<Shape, String> {
        if type_id != 0 {
            let ty = self.resolve(type_id)?;
            let is_function =
                |id| id != 0 && self.resolve(id).is_ok_and(|t| t.kind == KIND_FUNC_PROTO);
            if ty.kind == KIND_PTR && is_function(ty.size_or_type) {
                return Ok(Shape::Pointer(String::new()));
            }
        }
        self.shape(type_id)
    }
}
