//! Protobuf's wire format: fields one after the other, each with number and wire type.

use super::ProtobufError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Payload<'a>)>, ProtobufError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let payload = match key & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => Payload::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| ProtobufError::Truncated)?;
                Payload::Bytes(self.take(length)?)
            }
            5 => Payload::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(ProtobufError::Malformed),
        };
        Ok(Some((key >> 3, payload)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtobufError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(ProtobufError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtobufError> {
        self.take(N)?.try_into().map_err(|_| ProtobufError::Truncated)
    }

    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ProtobufError::Malformed)
    }
}

/// The last field `number`, 0 where it is not there.
pub(super) fn varint_of(bytes: &[u8], number: u64) -> Result<i64, ProtobufError> {
    let mut reader = Reader::new(bytes);
    let mut found = 0;
    while let Some((n, payload)) = reader.next()? {
        if let (true, Payload::Varint(value)) = (n == number, payload) {
            found = value.cast_signed();
        }
    }
    Ok(found)
}

pub(super) fn bytes_of(bytes: &[u8], number: u64) -> Result<Option<&[u8]>, ProtobufError> {
    let mut reader = Reader::new(bytes);
    let mut found = None;
    while let Some((n, payload)) = reader.next()? {
        if let (true, Payload::Bytes(value)) = (n == number, payload) {
            found = Some(value);
        }
    }
    Ok(found)
}
