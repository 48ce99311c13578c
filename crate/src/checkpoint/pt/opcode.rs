//! The pickle opcodes of protocols 2 to 5, named as in Python's `pickletools`, except registered extensions.

macro_rules! opcodes {
    ($($name:ident = $byte:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum Opcode {
            $($name = $byte,)*
        }

        impl Opcode {
            /// The opcode of a byte; `None` if PyTorch never writes it.
            pub(super) fn from_byte(byte: u8) -> Option<Self> {
                match byte {
                    $($byte => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

opcodes! {
    Proto = 0x80, Frame = 0x95, Stop = b'.',
    Mark = b'(', Pop = b'0', PopMark = b'1', Dup = b'2',
    None = b'N', NewTrue = 0x88, NewFalse = 0x89,
    BinInt1 = b'K', BinInt2 = b'M', BinInt = b'J', Long1 = 0x8a, Long4 = 0x8b, BinFloat = b'G',
    ShortBinString = b'U', BinString = b'T', ShortBinUnicode = 0x8c, BinUnicode = b'X', BinUnicode8 = 0x8d,
    ShortBinBytes = b'C', BinBytes = b'B', BinBytes8 = 0x8e, ByteArray8 = 0x96,
    EmptyTuple = b')', Tuple = b't', Tuple1 = 0x85, Tuple2 = 0x86, Tuple3 = 0x87,
    EmptyList = b']', Append = b'a', Appends = b'e',
    EmptyDict = b'}', SetItem = b's', SetItems = b'u',
    EmptySet = 0x8f, AddItems = 0x90, FrozenSet = 0x91,
    BinPut = b'q', LongBinPut = b'r', Memoize = 0x94, BinGet = b'h', LongBinGet = b'j',
    Global = b'c', StackGlobal = 0x93, BinPersId = b'Q',
    Reduce = b'R', NewObj = 0x81, NewObjEx = 0x92, Build = b'b',
}
