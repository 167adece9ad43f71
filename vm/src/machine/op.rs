//! The instructions of the step machine: their format and their numbers.
//!
//! An instruction is 16 bytes, little-endian, two to a leaf of region C:
//!
//! | at | field | |
//! |---|---|---|
//! | 0 | `op` u16 | low byte: what to do; above it the [`Form`] |
//! | 2 | `d` u16 | slot of the frame that gets the result |
//! | 4 | `a` u16 | slot of the first operand |
//! | 6 | `b` u16 | slot of the second operand |
//! | 8 | `imm` u64 | constant, target, offset |
//!
//! Numeric instructions, loads and stores have WebAssembly's own opcode bytes, saturating conversions 0xC5 to 0xCC. The
//! rest is below 0x28, in this module's constants. The `imm` of a load or store: its offset, and in the high half what is
//! added to the address first, as i32. Whatever is not in a table fails the task.

/// A unit of region C: an instruction, an entry of the call table, or 16 bytes of a data segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// What to do, and the form of the operands.
    pub op: u16,
    /// Slot of the result.
    pub d: u16,
    /// Slot of the first operand.
    pub a: u16,
    /// Slot of the second operand.
    pub b: u16,
    /// Constant, target or offset.
    pub imm: u64,
}

impl Unit {
    /// Bytes of a unit.
    pub const BYTES: usize = 16;

    /// The bytes that region C holds.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (at, field) in [self.op, self.d, self.a, self.b].into_iter().enumerate() {
            bytes[2 * at..2 * at + 2].copy_from_slice(&field.to_le_bytes());
        }
        bytes[8..].copy_from_slice(&self.imm.to_le_bytes());
        bytes
    }

    /// The unit that these bytes are; every 16 bytes are one.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let [op0, op1, d0, d1, a0, a1, b0, b1, imm @ ..] = bytes;
        let field = |low, high| u16::from_le_bytes([low, high]);
        Self { op: field(op0, op1), d: field(d0, d1), a: field(a0, a1), b: field(b0, b1), imm: u64::from_le_bytes(imm) }
    }
}

/// The forms of the instruction with the low byte `OP`, as constants that a `match` can name.
pub(super) struct Form<const OP: u16>;

/// Operand b is `imm`; of a load or store: the memory is the second one.
pub(super) const IMMEDIATE: u16 = 0x100;

/// A comparison that jumps when it holds and has no result. Target: low half of `imm`. With [`IMMEDIATE`], operand b is
/// the high half of `imm`, of an i64 comparison sign-extended.
pub(super) const BRANCH: u16 = 0x200;

impl<const OP: u16> Form<OP> {
    /// Both operands in slots; the first memory.
    pub(super) const SLOTS: u16 = OP;
    /// Operand b in `imm`.
    pub(super) const IMMEDIATE: u16 = OP | IMMEDIATE;
    /// Jumps, both operands in slots.
    pub(super) const BRANCH: u16 = OP | BRANCH;
    /// Jumps, operand b in the high half of `imm`.
    pub(super) const BRANCH_IMMEDIATE: u16 = OP | BRANCH | IMMEDIATE;
    /// The second memory.
    pub(super) const SYSTEM: u16 = OP | IMMEDIATE;
}

/// Fails the task: `unreachable`, and what lies beyond the code.
pub(super) const TRAP: u16 = 0x00;
/// pc = imm.
pub(super) const JUMP: u16 = 0x01;
/// pc += min(u32 of slot a, imm): into the list of jumps behind.
pub(super) const JUMP_TABLE: u16 = 0x02;
/// Calls the function at the low half of imm, whose frame of (high half of imm) slots begins at slot d of this one and
/// keeps the way back in its own slot a.
pub(super) const CALL: u16 = 0x03;
/// Calls entry (u32 of slot b) of the call table of (high half of imm) entries, if its type is the low half of imm; `d`
/// and `a` as [`CALL`].
pub(super) const CALL_INDIRECT: u16 = 0x04;
/// Goes back by what slot a keeps.
pub(super) const RETURN: u16 = 0x05;
/// The same, and slot 0 of the frame gets slot b.
pub(super) const RETURN_VALUE: u16 = 0x06;
/// Slot d gets slot a.
pub(super) const MOVE: u16 = 0x07;
/// Slot d gets imm.
pub(super) const CONST: u16 = 0x08;
/// Slot d gets slot a if the u32 of slot (imm) is not zero, else slot b.
pub(super) const SELECT: u16 = 0x09;
/// `a` slots, at most four, from slot d on get zero.
pub(super) const ZERO: u16 = 0x0A;
/// Slot d gets global slot imm.
pub(super) const GLOBAL_GET: u16 = 0x0B;
/// Global slot imm gets slot a.
pub(super) const GLOBAL_SET: u16 = 0x0C;
/// Global slot d gets itself and imm more, modulo 2^64.
pub(super) const GLOBAL_ADD: u16 = 0x0D;
/// Global slot imm gets zero: a data segment is dropped.
pub(super) const DROP: u16 = 0x0E;
/// Slot d gets the pages of memory imm.
pub(super) const MEMORY_SIZE: u16 = 0x0F;
/// Memory (low half of imm) grows by slot a pages, to at most (high half of imm); slot d gets what it had, or -1.
pub(super) const MEMORY_GROW: u16 = 0x10;
/// Copies between memories. Slots a, a+1, a+2: destination, source, length. Bit 0 of imm: memory of the destination, bit
/// 1: of the source.
pub(super) const MEMORY_COPY: u16 = 0x11;
/// Fills memory imm. Slots a, a+1, a+2: destination, byte, length.
pub(super) const MEMORY_FILL: u16 = 0x12;
/// Copies from a data segment. Slots a, a+1, a+2: destination, source, length. Bit 0 of imm: memory; bits 1 to 31: global
/// slot with the segment's length; high half: its first leaf in C.
pub(super) const MEMORY_INIT: u16 = 0x13;
/// Slot d gets the length of the input.
pub(super) const INPUT_LEN: u16 = 0x14;
/// Copies from the input. Slots a, a+1, a+2: offset, address, length; slot d gets how much.
pub(super) const INPUT_READ: u16 = 0x15;
/// Appends to the output. Slots a, a+1: address, length.
pub(super) const OUTPUT_WRITE: u16 = 0x16;
/// Ends the task with the exit code in slot a.
pub(super) const EXIT: u16 = 0x17;
/// Ends the task with exit code 0.
pub(super) const HALT: u16 = 0x18;
/// Global slot 0 gets the task's fuel limit.
pub(super) const SET_FUEL: u16 = 0x19;

/// Slot d gets slot a, then slot b gets slot (imm).
pub(super) const MOVE_TWO: u16 = 0x1A;
/// Slot d gets slot a less imm, as i64, and so does global slot b.
pub(super) const CHARGE: u16 = 0x1B;
/// The same, and then fails the task if that is less than zero.
pub(super) const CHARGE_OR_TRAP: u16 = 0x1C;

/// First and last comparison of i32, i64 and floats; all between are comparisons of two operands.
pub(super) const COMPARE_I32: std::ops::RangeInclusive<u16> = 0x46..=0x4F;
/// See [`COMPARE_I32`].
pub(super) const COMPARE_I64: std::ops::RangeInclusive<u16> = 0x51..=0x5A;
/// See [`COMPARE_I32`].
pub(super) const COMPARE_FLOAT: std::ops::RangeInclusive<u16> = 0x5B..=0x66;

/// `i32.eqz`.
pub(super) const I32_EQZ: u16 = 0x45;
/// `i32.eq`.
pub(super) const I32_EQ: u16 = 0x46;
/// `i32.ne`.
pub(super) const I32_NE: u16 = 0x47;
/// `i64.eqz`.
pub(super) const I64_EQZ: u16 = 0x50;
/// `i64.eq`.
pub(super) const I64_EQ: u16 = 0x51;
/// `i64.ge_s`.
pub(super) const I64_GE_S: u16 = 0x59;
/// `i32.add`.
pub(super) const I32_ADD: u16 = 0x6A;
/// `i32.sub`.
pub(super) const I32_SUB: u16 = 0x6B;
/// `i64.add`.
pub(super) const I64_ADD: u16 = 0x7C;
/// `i64.sub`.
pub(super) const I64_SUB: u16 = 0x7D;

/// The comparison that holds exactly when integer comparison `op` does not.
pub(super) fn inverse(op: u16) -> u16 {
    let first = if COMPARE_I32.contains(&op) { *COMPARE_I32.start() } else { *COMPARE_I64.start() };
    // eq ne, then signed and unsigned of lt, gt, le, ge: lt and ge, gt and le are each other's inverse.
    let at = op - first;
    first + if at < 2 { at ^ 1 } else { 2 + ((at - 2) ^ 6) }
}
