package wasm

// The vector instructions (SIMD), behind the prefix 0xfd.
const (
	OpV128Load                  Opcode = prefixVector << 16
	OpV128Load8x8S              Opcode = prefixVector<<16 | 0x01
	OpV128Load8x8U              Opcode = prefixVector<<16 | 0x02
	OpV128Load16x4S             Opcode = prefixVector<<16 | 0x03
	OpV128Load16x4U             Opcode = prefixVector<<16 | 0x04
	OpV128Load32x2S             Opcode = prefixVector<<16 | 0x05
	OpV128Load32x2U             Opcode = prefixVector<<16 | 0x06
	OpV128Load8Splat            Opcode = prefixVector<<16 | 0x07
	OpV128Load16Splat           Opcode = prefixVector<<16 | 0x08
	OpV128Load32Splat           Opcode = prefixVector<<16 | 0x09
	OpV128Load64Splat           Opcode = prefixVector<<16 | 0x0a
	OpV128Store                 Opcode = prefixVector<<16 | 0x0b
	OpV128Const                 Opcode = prefixVector<<16 | 0x0c
	OpI8x16Shuffle              Opcode = prefixVector<<16 | 0x0d
	OpI8x16Swizzle              Opcode = prefixVector<<16 | 0x0e
	OpI8x16Splat                Opcode = prefixVector<<16 | 0x0f
	OpI16x8Splat                Opcode = prefixVector<<16 | 0x10
	OpI32x4Splat                Opcode = prefixVector<<16 | 0x11
	OpI64x2Splat                Opcode = prefixVector<<16 | 0x12
	OpF32x4Splat                Opcode = prefixVector<<16 | 0x13
	OpF64x2Splat                Opcode = prefixVector<<16 | 0x14
	OpI8x16ExtractLaneS         Opcode = prefixVector<<16 | 0x15
	OpI8x16ExtractLaneU         Opcode = prefixVector<<16 | 0x16
	OpI8x16ReplaceLane          Opcode = prefixVector<<16 | 0x17
	OpI16x8ExtractLaneS         Opcode = prefixVector<<16 | 0x18
	OpI16x8ExtractLaneU         Opcode = prefixVector<<16 | 0x19
	OpI16x8ReplaceLane          Opcode = prefixVector<<16 | 0x1a
	OpI32x4ExtractLane          Opcode = prefixVector<<16 | 0x1b
	OpI32x4ReplaceLane          Opcode = prefixVector<<16 | 0x1c
	OpI64x2ExtractLane          Opcode = prefixVector<<16 | 0x1d
	OpI64x2ReplaceLane          Opcode = prefixVector<<16 | 0x1e
	OpF32x4ExtractLane          Opcode = prefixVector<<16 | 0x1f
	OpF32x4ReplaceLane          Opcode = prefixVector<<16 | 0x20
	OpF64x2ExtractLane          Opcode = prefixVector<<16 | 0x21
	OpF64x2ReplaceLane          Opcode = prefixVector<<16 | 0x22
	OpI8x16Eq                   Opcode = prefixVector<<16 | 0x23
	OpI8x16Ne                   Opcode = prefixVector<<16 | 0x24
	OpI8x16LtS                  Opcode = prefixVector<<16 | 0x25
	OpI8x16LtU                  Opcode = prefixVector<<16 | 0x26
	OpI8x16GtS                  Opcode = prefixVector<<16 | 0x27
	OpI8x16GtU                  Opcode = prefixVector<<16 | 0x28
	OpI8x16LeS                  Opcode = prefixVector<<16 | 0x29
	OpI8x16LeU                  Opcode = prefixVector<<16 | 0x2a
	OpI8x16GeS                  Opcode = prefixVector<<16 | 0x2b
	OpI8x16GeU                  Opcode = prefixVector<<16 | 0x2c
	OpI16x8Eq                   Opcode = prefixVector<<16 | 0x2d
	OpI16x8Ne                   Opcode = prefixVector<<16 | 0x2e
	OpI16x8LtS                  Opcode = prefixVector<<16 | 0x2f
	OpI16x8LtU                  Opcode = prefixVector<<16 | 0x30
	OpI16x8GtS                  Opcode = prefixVector<<16 | 0x31
	OpI16x8GtU                  Opcode = prefixVector<<16 | 0x32
	OpI16x8LeS                  Opcode = prefixVector<<16 | 0x33
	OpI16x8LeU                  Opcode = prefixVector<<16 | 0x34
	OpI16x8GeS                  Opcode = prefixVector<<16 | 0x35
	OpI16x8GeU                  Opcode = prefixVector<<16 | 0x36
	OpI32x4Eq                   Opcode = prefixVector<<16 | 0x37
	OpI32x4Ne                   Opcode = prefixVector<<16 | 0x38
	OpI32x4LtS                  Opcode = prefixVector<<16 | 0x39
	OpI32x4LtU                  Opcode = prefixVector<<16 | 0x3a
	OpI32x4GtS                  Opcode = prefixVector<<16 | 0x3b
	OpI32x4GtU                  Opcode = prefixVector<<16 | 0x3c
	OpI32x4LeS                  Opcode = prefixVector<<16 | 0x3d
	OpI32x4LeU                  Opcode = prefixVector<<16 | 0x3e
	OpI32x4GeS                  Opcode = prefixVector<<16 | 0x3f
	OpI32x4GeU                  Opcode = prefixVector<<16 | 0x40
	OpF32x4Eq                   Opcode = prefixVector<<16 | 0x41
	OpF32x4Ne                   Opcode = prefixVector<<16 | 0x42
	OpF32x4Lt                   Opcode = prefixVector<<16 | 0x43
	OpF32x4Gt                   Opcode = prefixVector<<16 | 0x44
	OpF32x4Le                   Opcode = prefixVector<<16 | 0x45
	OpF32x4Ge                   Opcode = prefixVector<<16 | 0x46
	OpF64x2Eq                   Opcode = prefixVector<<16 | 0x47
	OpF64x2Ne                   Opcode = prefixVector<<16 | 0x48
	OpF64x2Lt                   Opcode = prefixVector<<16 | 0x49
	OpF64x2Gt                   Opcode = prefixVector<<16 | 0x4a
	OpF64x2Le                   Opcode = prefixVector<<16 | 0x4b
	OpF64x2Ge                   Opcode = prefixVector<<16 | 0x4c
	OpV128Not                   Opcode = prefixVector<<16 | 0x4d
	OpV128And                   Opcode = prefixVector<<16 | 0x4e
	OpV128Andnot                Opcode = prefixVector<<16 | 0x4f
	OpV128Or                    Opcode = prefixVector<<16 | 0x50
	OpV128Xor                   Opcode = prefixVector<<16 | 0x51
	OpV128Bitselect             Opcode = prefixVector<<16 | 0x52
	OpV128AnyTrue               Opcode = prefixVector<<16 | 0x53
	OpV128Load8Lane             Opcode = prefixVector<<16 | 0x54
	OpV128Load16Lane            Opcode = prefixVector<<16 | 0x55
	OpV128Load32Lane            Opcode = prefixVector<<16 | 0x56
	OpV128Load64Lane            Opcode = prefixVector<<16 | 0x57
	OpV128Store8Lane            Opcode = prefixVector<<16 | 0x58
	OpV128Store16Lane           Opcode = prefixVector<<16 | 0x59
	OpV128Store32Lane           Opcode = prefixVector<<16 | 0x5a
	OpV128Store64Lane           Opcode = prefixVector<<16 | 0x5b
	OpV128Load32Zero            Opcode = prefixVector<<16 | 0x5c
	OpV128Load64Zero            Opcode = prefixVector<<16 | 0x5d
	OpF32x4DemoteF64x2Zero      Opcode = prefixVector<<16 | 0x5e
	OpF64x2PromoteLowF32x4      Opcode = prefixVector<<16 | 0x5f
	OpI8x16Abs                  Opcode = prefixVector<<16 | 0x60
	OpI8x16Neg                  Opcode = prefixVector<<16 | 0x61
	OpI8x16Popcnt               Opcode = prefixVector<<16 | 0x62
	OpI8x16AllTrue              Opcode = prefixVector<<16 | 0x63
	OpI8x16Bitmask              Opcode = prefixVector<<16 | 0x64
	OpI8x16NarrowI16x8S         Opcode = prefixVector<<16 | 0x65
	OpI8x16NarrowI16x8U         Opcode = prefixVector<<16 | 0x66
	OpF32x4Ceil                 Opcode = prefixVector<<16 | 0x67
	OpF32x4Floor                Opcode = prefixVector<<16 | 0x68
	OpF32x4Trunc                Opcode = prefixVector<<16 | 0x69
	OpF32x4Nearest              Opcode = prefixVector<<16 | 0x6a
	OpI8x16Shl                  Opcode = prefixVector<<16 | 0x6b
	OpI8x16ShrS                 Opcode = prefixVector<<16 | 0x6c
	OpI8x16ShrU                 Opcode = prefixVector<<16 | 0x6d
	OpI8x16Add                  Opcode = prefixVector<<16 | 0x6e
	OpI8x16AddSatS              Opcode = prefixVector<<16 | 0x6f
	OpI8x16AddSatU              Opcode = prefixVector<<16 | 0x70
	OpI8x16Sub                  Opcode = prefixVector<<16 | 0x71
	OpI8x16SubSatS              Opcode = prefixVector<<16 | 0x72
	OpI8x16SubSatU              Opcode = prefixVector<<16 | 0x73
	OpF64x2Ceil                 Opcode = prefixVector<<16 | 0x74
	OpF64x2Floor                Opcode = prefixVector<<16 | 0x75
	OpI8x16MinS                 Opcode = prefixVector<<16 | 0x76
	OpI8x16MinU                 Opcode = prefixVector<<16 | 0x77
	OpI8x16MaxS                 Opcode = prefixVector<<16 | 0x78
	OpI8x16MaxU                 Opcode = prefixVector<<16 | 0x79
	OpF64x2Trunc                Opcode = prefixVector<<16 | 0x7a
	OpI8x16AvgrU                Opcode = prefixVector<<16 | 0x7b
	OpI16x8ExtaddPairwiseI8x16S Opcode = prefixVector<<16 | 0x7c
	OpI16x8ExtaddPairwiseI8x16U Opcode = prefixVector<<16 | 0x7d
	OpI32x4ExtaddPairwiseI16x8S Opcode = prefixVector<<16 | 0x7e
	OpI32x4ExtaddPairwiseI16x8U Opcode = prefixVector<<16 | 0x7f
	OpI16x8Abs                  Opcode = prefixVector<<16 | 0x80
	OpI16x8Neg                  Opcode = prefixVector<<16 | 0x81
	OpI16x8Q15mulrSatS          Opcode = prefixVector<<16 | 0x82
	OpI16x8AllTrue              Opcode = prefixVector<<16 | 0x83
	OpI16x8Bitmask              Opcode = prefixVector<<16 | 0x84
	OpI16x8NarrowI32x4S         Opcode = prefixVector<<16 | 0x85
	OpI16x8NarrowI32x4U         Opcode = prefixVector<<16 | 0x86
	OpI16x8ExtendLowI8x16S      Opcode = prefixVector<<16 | 0x87
	OpI16x8ExtendHighI8x16S     Opcode = prefixVector<<16 | 0x88
	OpI16x8ExtendLowI8x16U      Opcode = prefixVector<<16 | 0x89
	OpI16x8ExtendHighI8x16U     Opcode = prefixVector<<16 | 0x8a
	OpI16x8Shl                  Opcode = prefixVector<<16 | 0x8b
	OpI16x8ShrS                 Opcode = prefixVector<<16 | 0x8c
	OpI16x8ShrU                 Opcode = prefixVector<<16 | 0x8d
	OpI16x8Add                  Opcode = prefixVector<<16 | 0x8e
	OpI16x8AddSatS              Opcode = prefixVector<<16 | 0x8f
	OpI16x8AddSatU              Opcode = prefixVector<<16 | 0x90
	OpI16x8Sub                  Opcode = prefixVector<<16 | 0x91
	OpI16x8SubSatS              Opcode = prefixVector<<16 | 0x92
	OpI16x8SubSatU              Opcode = prefixVector<<16 | 0x93
	OpF64x2Nearest              Opcode = prefixVector<<16 | 0x94
	OpI16x8Mul                  Opcode = prefixVector<<16 | 0x95
	OpI16x8MinS                 Opcode = prefixVector<<16 | 0x96
	OpI16x8MinU                 Opcode = prefixVector<<16 | 0x97
	OpI16x8MaxS                 Opcode = prefixVector<<16 | 0x98
	OpI16x8MaxU                 Opcode = prefixVector<<16 | 0x99
	OpI16x8AvgrU                Opcode = prefixVector<<16 | 0x9b
	OpI16x8ExtmulLowI8x16S      Opcode = prefixVector<<16 | 0x9c
	OpI16x8ExtmulHighI8x16S     Opcode = prefixVector<<16 | 0x9d
	OpI16x8ExtmulLowI8x16U      Opcode = prefixVector<<16 | 0x9e
	OpI16x8ExtmulHighI8x16U     Opcode = prefixVector<<16 | 0x9f
	OpI32x4Abs                  Opcode = prefixVector<<16 | 0xa0
	OpI32x4Neg                  Opcode = prefixVector<<16 | 0xa1
	OpI32x4AllTrue              Opcode = prefixVector<<16 | 0xa3
	OpI32x4Bitmask              Opcode = prefixVector<<16 | 0xa4
	OpI32x4ExtendLowI16x8S      Opcode = prefixVector<<16 | 0xa7
	OpI32x4ExtendHighI16x8S     Opcode = prefixVector<<16 | 0xa8
	OpI32x4ExtendLowI16x8U      Opcode = prefixVector<<16 | 0xa9
	OpI32x4ExtendHighI16x8U     Opcode = prefixVector<<16 | 0xaa
	OpI32x4Shl                  Opcode = prefixVector<<16 | 0xab
	OpI32x4ShrS                 Opcode = prefixVector<<16 | 0xac
	OpI32x4ShrU                 Opcode = prefixVector<<16 | 0xad
	OpI32x4Add                  Opcode = prefixVector<<16 | 0xae
	OpI32x4Sub                  Opcode = prefixVector<<16 | 0xb1
	OpI32x4Mul                  Opcode = prefixVector<<16 | 0xb5
	OpI32x4MinS                 Opcode = prefixVector<<16 | 0xb6
	OpI32x4MinU                 Opcode = prefixVector<<16 | 0xb7
	OpI32x4MaxS                 Opcode = prefixVector<<16 | 0xb8
	OpI32x4MaxU                 Opcode = prefixVector<<16 | 0xb9
	OpI32x4DotI16x8S            Opcode = prefixVector<<16 | 0xba
	OpI32x4ExtmulLowI16x8S      Opcode = prefixVector<<16 | 0xbc
	OpI32x4ExtmulHighI16x8S     Opcode = prefixVector<<16 | 0xbd
	OpI32x4ExtmulLowI16x8U      Opcode = prefixVector<<16 | 0xbe
	OpI32x4ExtmulHighI16x8U     Opcode = prefixVector<<16 | 0xbf
	OpI64x2Abs                  Opcode = prefixVector<<16 | 0xc0
	OpI64x2Neg                  Opcode = prefixVector<<16 | 0xc1
	OpI64x2AllTrue              Opcode = prefixVector<<16 | 0xc3
	OpI64x2Bitmask              Opcode = prefixVector<<16 | 0xc4
	OpI64x2ExtendLowI32x4S      Opcode = prefixVector<<16 | 0xc7
	OpI64x2ExtendHighI32x4S     Opcode = prefixVector<<16 | 0xc8
	OpI64x2ExtendLowI32x4U      Opcode = prefixVector<<16 | 0xc9
	OpI64x2ExtendHighI32x4U     Opcode = prefixVector<<16 | 0xca
	OpI64x2Shl                  Opcode = prefixVector<<16 | 0xcb
	OpI64x2ShrS                 Opcode = prefixVector<<16 | 0xcc
	OpI64x2ShrU                 Opcode = prefixVector<<16 | 0xcd
	OpI64x2Add                  Opcode = prefixVector<<16 | 0xce
	OpI64x2Sub                  Opcode = prefixVector<<16 | 0xd1
	OpI64x2Mul                  Opcode = prefixVector<<16 | 0xd5
	OpI64x2Eq                   Opcode = prefixVector<<16 | 0xd6
	OpI64x2Ne                   Opcode = prefixVector<<16 | 0xd7
	OpI64x2LtS                  Opcode = prefixVector<<16 | 0xd8
	OpI64x2GtS                  Opcode = prefixVector<<16 | 0xd9
	OpI64x2LeS                  Opcode = prefixVector<<16 | 0xda
	OpI64x2GeS                  Opcode = prefixVector<<16 | 0xdb
	OpI64x2ExtmulLowI32x4S      Opcode = prefixVector<<16 | 0xdc
	OpI64x2ExtmulHighI32x4S     Opcode = prefixVector<<16 | 0xdd
	OpI64x2ExtmulLowI32x4U      Opcode = prefixVector<<16 | 0xde
	OpI64x2ExtmulHighI32x4U     Opcode = prefixVector<<16 | 0xdf
	OpF32x4Abs                  Opcode = prefixVector<<16 | 0xe0
	OpF32x4Neg                  Opcode = prefixVector<<16 | 0xe1
	OpF32x4Sqrt                 Opcode = prefixVector<<16 | 0xe3
	OpF32x4Add                  Opcode = prefixVector<<16 | 0xe4
	OpF32x4Sub                  Opcode = prefixVector<<16 | 0xe5
	OpF32x4Mul                  Opcode = prefixVector<<16 | 0xe6
	OpF32x4Div                  Opcode = prefixVector<<16 | 0xe7
	OpF32x4Min                  Opcode = prefixVector<<16 | 0xe8
	OpF32x4Max                  Opcode = prefixVector<<16 | 0xe9
	OpF32x4Pmin                 Opcode = prefixVector<<16 | 0xea
	OpF32x4Pmax                 Opcode = prefixVector<<16 | 0xeb
	OpF64x2Abs                  Opcode = prefixVector<<16 | 0xec
	OpF64x2Neg                  Opcode = prefixVector<<16 | 0xed
	OpF64x2Sqrt                 Opcode = prefixVector<<16 | 0xef
	OpF64x2Add                  Opcode = prefixVector<<16 | 0xf0
	OpF64x2Sub                  Opcode = prefixVector<<16 | 0xf1
	OpF64x2Mul                  Opcode = prefixVector<<16 | 0xf2
	OpF64x2Div                  Opcode = prefixVector<<16 | 0xf3
	OpF64x2Min                  Opcode = prefixVector<<16 | 0xf4
	OpF64x2Max                  Opcode = prefixVector<<16 | 0xf5
	OpF64x2Pmin                 Opcode = prefixVector<<16 | 0xf6
	OpF64x2Pmax                 Opcode = prefixVector<<16 | 0xf7
	OpI32x4TruncSatF32x4S       Opcode = prefixVector<<16 | 0xf8
	OpI32x4TruncSatF32x4U       Opcode = prefixVector<<16 | 0xf9
	OpF32x4ConvertI32x4S        Opcode = prefixVector<<16 | 0xfa
	OpF32x4ConvertI32x4U        Opcode = prefixVector<<16 | 0xfb
	OpI32x4TruncSatF64x2SZero   Opcode = prefixVector<<16 | 0xfc
	OpI32x4TruncSatF64x2UZero   Opcode = prefixVector<<16 | 0xfd
	OpF64x2ConvertLowI32x4S     Opcode = prefixVector<<16 | 0xfe
	OpF64x2ConvertLowI32x4U     Opcode = prefixVector<<16 | 0xff
)

// vectorInfo describes the instructions behind the prefix 0xfd.
var vectorInfo = [256]Info{
	OpV128Load & 0xff:                  {Name: "v128.load", Imm: ImmMemArg, Params: typesI32, Results: typesV128, Align: 4},
	OpV128Load8x8S & 0xff:              {Name: "v128.load8x8_s", Imm: ImmMemArg, Params: typesI32, Results: typesV128, Align: 3},
	OpV128Load8x8U & 0xff:              {Name: "v128.load8x8_u", Imm: ImmMemArg, Params: typesI32, Results: typesV128, Align: 3},
	OpV128Load16x4S & 0xff:             {Name: "v128.load16x4_s", Imm: ImmMemArg, Params: typesI32, Results: typesV128, Align: 3},
	OpV128Load16x4U & 0xff:             {Name: "v128.load16x4_u", Imm: ImmMemArg, Params: typesI32, Results: typesV128, Align: 3},
	OpV128Load32x2S & 0xff:             {Name: "v128.load32x2_s", Imm: ImmMemArg, Params: typesI32, Results: typesV128, Align: 3},
	OpV128Load32x2U & 0xff:             {Name: "v128.load32x2_u", Imm: ImmMemArg, Params: typesI32, Results: typesV128, Align: 3},
	OpV128Load8Splat & 0xff:            {Name: "v128.load8_splat", Imm: ImmMemArg, Params: typesI32, Results: typesV128},
	OpV128Load16Splat & 0xff:           {Name: "v128.load16_splat", Imm: ImmMemArg, Params: typesI32, Results: typesV128, Align: 1},
	OpV128Load32Splat & 0xff:           {Name: "v128.load32_splat", Imm: ImmMemArg, Params: typesI32, Results: typesV128, Align: 2},
	OpV128Load64Splat & 0xff:           {Name: "v128.load64_splat", Imm: ImmMemArg, Params: typesI32, Results: typesV128, Align: 3},
	OpV128Store & 0xff:                 {Name: "v128.store", Imm: ImmMemArg, Params: typesI32V128, Align: 4},
	OpV128Const & 0xff:                 {Name: "v128.const", Imm: ImmV128, Results: typesV128},
	OpI8x16Shuffle & 0xff:              {Name: "i8x16.shuffle", Imm: ImmShuffle, Params: typesV128V128, Results: typesV128, Lanes: 32},
	OpI8x16Swizzle & 0xff:              {Name: "i8x16.swizzle", Params: typesV128V128, Results: typesV128},
	OpI8x16Splat & 0xff:                {Name: "i8x16.splat", Params: typesI32, Results: typesV128},
	OpI16x8Splat & 0xff:                {Name: "i16x8.splat", Params: typesI32, Results: typesV128},
	OpI32x4Splat & 0xff:                {Name: "i32x4.splat", Params: typesI32, Results: typesV128},
	OpI64x2Splat & 0xff:                {Name: "i64x2.splat", Params: typesI64, Results: typesV128},
	OpF32x4Splat & 0xff:                {Name: "f32x4.splat", Params: typesF32, Results: typesV128},
	OpF64x2Splat & 0xff:                {Name: "f64x2.splat", Params: typesF64, Results: typesV128},
	OpI8x16ExtractLaneS & 0xff:         {Name: "i8x16.extract_lane_s", Imm: ImmLane, Params: typesV128, Results: typesI32, Lanes: 16},
	OpI8x16ExtractLaneU & 0xff:         {Name: "i8x16.extract_lane_u", Imm: ImmLane, Params: typesV128, Results: typesI32, Lanes: 16},
	OpI8x16ReplaceLane & 0xff:          {Name: "i8x16.replace_lane", Imm: ImmLane, Params: typesV128I32, Results: typesV128, Lanes: 16},
	OpI16x8ExtractLaneS & 0xff:         {Name: "i16x8.extract_lane_s", Imm: ImmLane, Params: typesV128, Results: typesI32, Lanes: 8},
	OpI16x8ExtractLaneU & 0xff:         {Name: "i16x8.extract_lane_u", Imm: ImmLane, Params: typesV128, Results: typesI32, Lanes: 8},
	OpI16x8ReplaceLane & 0xff:          {Name: "i16x8.replace_lane", Imm: ImmLane, Params: typesV128I32, Results: typesV128, Lanes: 8},
	OpI32x4ExtractLane & 0xff:          {Name: "i32x4.extract_lane", Imm: ImmLane, Params: typesV128, Results: typesI32, Lanes: 4},
	OpI32x4ReplaceLane & 0xff:          {Name: "i32x4.replace_lane", Imm: ImmLane, Params: typesV128I32, Results: typesV128, Lanes: 4},
	OpI64x2ExtractLane & 0xff:          {Name: "i64x2.extract_lane", Imm: ImmLane, Params: typesV128, Results: typesI64, Lanes: 2},
	OpI64x2ReplaceLane & 0xff:          {Name: "i64x2.replace_lane", Imm: ImmLane, Params: typesV128I64, Results: typesV128, Lanes: 2},
	OpF32x4ExtractLane & 0xff:          {Name: "f32x4.extract_lane", Imm: ImmLane, Params: typesV128, Results: typesF32, Lanes: 4},
	OpF32x4ReplaceLane & 0xff:          {Name: "f32x4.replace_lane", Imm: ImmLane, Params: typesV128F32, Results: typesV128, Lanes: 4},
	OpF64x2ExtractLane & 0xff:          {Name: "f64x2.extract_lane", Imm: ImmLane, Params: typesV128, Results: typesF64, Lanes: 2},
	OpF64x2ReplaceLane & 0xff:          {Name: "f64x2.replace_lane", Imm: ImmLane, Params: typesV128F64, Results: typesV128, Lanes: 2},
	OpI8x16Eq & 0xff:                   {Name: "i8x16.eq", Params: typesV128V128, Results: typesV128},
	OpI8x16Ne & 0xff:                   {Name: "i8x16.ne", Params: typesV128V128, Results: typesV128},
	OpI8x16LtS & 0xff:                  {Name: "i8x16.lt_s", Params: typesV128V128, Results: typesV128},
	OpI8x16LtU & 0xff:                  {Name: "i8x16.lt_u", Params: typesV128V128, Results: typesV128},
	OpI8x16GtS & 0xff:                  {Name: "i8x16.gt_s", Params: typesV128V128, Results: typesV128},
	OpI8x16GtU & 0xff:                  {Name: "i8x16.gt_u", Params: typesV128V128, Results: typesV128},
	OpI8x16LeS & 0xff:                  {Name: "i8x16.le_s", Params: typesV128V128, Results: typesV128},
	OpI8x16LeU & 0xff:                  {Name: "i8x16.le_u", Params: typesV128V128, Results: typesV128},
	OpI8x16GeS & 0xff:                  {Name: "i8x16.ge_s", Params: typesV128V128, Results: typesV128},
	OpI8x16GeU & 0xff:                  {Name: "i8x16.ge_u", Params: typesV128V128, Results: typesV128},
	OpI16x8Eq & 0xff:                   {Name: "i16x8.eq", Params: typesV128V128, Results: typesV128},
	OpI16x8Ne & 0xff:                   {Name: "i16x8.ne", Params: typesV128V128, Results: typesV128},
	OpI16x8LtS & 0xff:                  {Name: "i16x8.lt_s", Params: typesV128V128, Results: typesV128},
	OpI16x8LtU & 0xff:                  {Name: "i16x8.lt_u", Params: typesV128V128, Results: typesV128},
	OpI16x8GtS & 0xff:                  {Name: "i16x8.gt_s", Params: typesV128V128, Results: typesV128},
	OpI16x8GtU & 0xff:                  {Name: "i16x8.gt_u", Params: typesV128V128, Results: typesV128},
	OpI16x8LeS & 0xff:                  {Name: "i16x8.le_s", Params: typesV128V128, Results: typesV128},
	OpI16x8LeU & 0xff:                  {Name: "i16x8.le_u", Params: typesV128V128, Results: typesV128},
	OpI16x8GeS & 0xff:                  {Name: "i16x8.ge_s", Params: typesV128V128, Results: typesV128},
	OpI16x8GeU & 0xff:                  {Name: "i16x8.ge_u", Params: typesV128V128, Results: typesV128},
	OpI32x4Eq & 0xff:                   {Name: "i32x4.eq", Params: typesV128V128, Results: typesV128},
	OpI32x4Ne & 0xff:                   {Name: "i32x4.ne", Params: typesV128V128, Results: typesV128},
	OpI32x4LtS & 0xff:                  {Name: "i32x4.lt_s", Params: typesV128V128, Results: typesV128},
	OpI32x4LtU & 0xff:                  {Name: "i32x4.lt_u", Params: typesV128V128, Results: typesV128},
	OpI32x4GtS & 0xff:                  {Name: "i32x4.gt_s", Params: typesV128V128, Results: typesV128},
	OpI32x4GtU & 0xff:                  {Name: "i32x4.gt_u", Params: typesV128V128, Results: typesV128},
	OpI32x4LeS & 0xff:                  {Name: "i32x4.le_s", Params: typesV128V128, Results: typesV128},
	OpI32x4LeU & 0xff:                  {Name: "i32x4.le_u", Params: typesV128V128, Results: typesV128},
	OpI32x4GeS & 0xff:                  {Name: "i32x4.ge_s", Params: typesV128V128, Results: typesV128},
	OpI32x4GeU & 0xff:                  {Name: "i32x4.ge_u", Params: typesV128V128, Results: typesV128},
	OpF32x4Eq & 0xff:                   {Name: "f32x4.eq", Params: typesV128V128, Results: typesV128},
	OpF32x4Ne & 0xff:                   {Name: "f32x4.ne", Params: typesV128V128, Results: typesV128},
	OpF32x4Lt & 0xff:                   {Name: "f32x4.lt", Params: typesV128V128, Results: typesV128},
	OpF32x4Gt & 0xff:                   {Name: "f32x4.gt", Params: typesV128V128, Results: typesV128},
	OpF32x4Le & 0xff:                   {Name: "f32x4.le", Params: typesV128V128, Results: typesV128},
	OpF32x4Ge & 0xff:                   {Name: "f32x4.ge", Params: typesV128V128, Results: typesV128},
	OpF64x2Eq & 0xff:                   {Name: "f64x2.eq", Params: typesV128V128, Results: typesV128},
	OpF64x2Ne & 0xff:                   {Name: "f64x2.ne", Params: typesV128V128, Results: typesV128},
	OpF64x2Lt & 0xff:                   {Name: "f64x2.lt", Params: typesV128V128, Results: typesV128},
	OpF64x2Gt & 0xff:                   {Name: "f64x2.gt", Params: typesV128V128, Results: typesV128},
	OpF64x2Le & 0xff:                   {Name: "f64x2.le", Params: typesV128V128, Results: typesV128},
	OpF64x2Ge & 0xff:                   {Name: "f64x2.ge", Params: typesV128V128, Results: typesV128},
	OpV128Not & 0xff:                   {Name: "v128.not", Params: typesV128, Results: typesV128},
	OpV128And & 0xff:                   {Name: "v128.and", Params: typesV128V128, Results: typesV128},
	OpV128Andnot & 0xff:                {Name: "v128.andnot", Params: typesV128V128, Results: typesV128},
	OpV128Or & 0xff:                    {Name: "v128.or", Params: typesV128V128, Results: typesV128},
	OpV128Xor & 0xff:                   {Name: "v128.xor", Params: typesV128V128, Results: typesV128},
	OpV128Bitselect & 0xff:             {Name: "v128.bitselect", Params: typesV128V128V128, Results: typesV128},
	OpV128AnyTrue & 0xff:               {Name: "v128.any_true", Params: typesV128, Results: typesI32},
	OpV128Load8Lane & 0xff:             {Name: "v128.load8_lane", Imm: ImmMemArgLane, Params: typesI32V128, Results: typesV128, Lanes: 16},
	OpV128Load16Lane & 0xff:            {Name: "v128.load16_lane", Imm: ImmMemArgLane, Params: typesI32V128, Results: typesV128, Align: 1, Lanes: 8},
	OpV128Load32Lane & 0xff:            {Name: "v128.load32_lane", Imm: ImmMemArgLane, Params: typesI32V128, Results: typesV128, Align: 2, Lanes: 4},
	OpV128Load64Lane & 0xff:            {Name: "v128.load64_lane", Imm: ImmMemArgLane, Params: typesI32V128, Results: typesV128, Align: 3, Lanes: 2},
	OpV128Store8Lane & 0xff:            {Name: "v128.store8_lane", Imm: ImmMemArgLane, Params: typesI32V128, Lanes: 16},
	OpV128Store16Lane & 0xff:           {Name: "v128.store16_lane", Imm: ImmMemArgLane, Params: typesI32V128, Align: 1, Lanes: 8},
	OpV128Store32Lane & 0xff:           {Name: "v128.store32_lane", Imm: ImmMemArgLane, Params: typesI32V128, Align: 2, Lanes: 4},
	OpV128Store64Lane & 0xff:           {Name: "v128.store64_lane", Imm: ImmMemArgLane, Params: typesI32V128, Align: 3, Lanes: 2},
	OpV128Load32Zero & 0xff:            {Name: "v128.load32_zero", Imm: ImmMemArg, Params: typesI32, Results: typesV128, Align: 2},
	OpV128Load64Zero & 0xff:            {Name: "v128.load64_zero", Imm: ImmMemArg, Params: typesI32, Results: typesV128, Align: 3},
	OpF32x4DemoteF64x2Zero & 0xff:      {Name: "f32x4.demote_f64x2_zero", Params: typesV128, Results: typesV128},
	OpF64x2PromoteLowF32x4 & 0xff:      {Name: "f64x2.promote_low_f32x4", Params: typesV128, Results: typesV128},
	OpI8x16Abs & 0xff:                  {Name: "i8x16.abs", Params: typesV128, Results: typesV128},
	OpI8x16Neg & 0xff:                  {Name: "i8x16.neg", Params: typesV128, Results: typesV128},
	OpI8x16Popcnt & 0xff:               {Name: "i8x16.popcnt", Params: typesV128, Results: typesV128},
	OpI8x16AllTrue & 0xff:              {Name: "i8x16.all_true", Params: typesV128, Results: typesI32},
	OpI8x16Bitmask & 0xff:              {Name: "i8x16.bitmask", Params: typesV128, Results: typesI32},
	OpI8x16NarrowI16x8S & 0xff:         {Name: "i8x16.narrow_i16x8_s", Params: typesV128V128, Results: typesV128},
	OpI8x16NarrowI16x8U & 0xff:         {Name: "i8x16.narrow_i16x8_u", Params: typesV128V128, Results: typesV128},
	OpF32x4Ceil & 0xff:                 {Name: "f32x4.ceil", Params: typesV128, Results: typesV128},
	OpF32x4Floor & 0xff:                {Name: "f32x4.floor", Params: typesV128, Results: typesV128},
	OpF32x4Trunc & 0xff:                {Name: "f32x4.trunc", Params: typesV128, Results: typesV128},
	OpF32x4Nearest & 0xff:              {Name: "f32x4.nearest", Params: typesV128, Results: typesV128},
	OpI8x16Shl & 0xff:                  {Name: "i8x16.shl", Params: typesV128I32, Results: typesV128},
	OpI8x16ShrS & 0xff:                 {Name: "i8x16.shr_s", Params: typesV128I32, Results: typesV128},
	OpI8x16ShrU & 0xff:                 {Name: "i8x16.shr_u", Params: typesV128I32, Results: typesV128},
	OpI8x16Add & 0xff:                  {Name: "i8x16.add", Params: typesV128V128, Results: typesV128},
	OpI8x16AddSatS & 0xff:              {Name: "i8x16.add_sat_s", Params: typesV128V128, Results: typesV128},
	OpI8x16AddSatU & 0xff:              {Name: "i8x16.add_sat_u", Params: typesV128V128, Results: typesV128},
	OpI8x16Sub & 0xff:                  {Name: "i8x16.sub", Params: typesV128V128, Results: typesV128},
	OpI8x16SubSatS & 0xff:              {Name: "i8x16.sub_sat_s", Params: typesV128V128, Results: typesV128},
	OpI8x16SubSatU & 0xff:              {Name: "i8x16.sub_sat_u", Params: typesV128V128, Results: typesV128},
	OpF64x2Ceil & 0xff:                 {Name: "f64x2.ceil", Params: typesV128, Results: typesV128},
	OpF64x2Floor & 0xff:                {Name: "f64x2.floor", Params: typesV128, Results: typesV128},
	OpI8x16MinS & 0xff:                 {Name: "i8x16.min_s", Params: typesV128V128, Results: typesV128},
	OpI8x16MinU & 0xff:                 {Name: "i8x16.min_u", Params: typesV128V128, Results: typesV128},
	OpI8x16MaxS & 0xff:                 {Name: "i8x16.max_s", Params: typesV128V128, Results: typesV128},
	OpI8x16MaxU & 0xff:                 {Name: "i8x16.max_u", Params: typesV128V128, Results: typesV128},
	OpF64x2Trunc & 0xff:                {Name: "f64x2.trunc", Params: typesV128, Results: typesV128},
	OpI8x16AvgrU & 0xff:                {Name: "i8x16.avgr_u", Params: typesV128V128, Results: typesV128},
	OpI16x8ExtaddPairwiseI8x16S & 0xff: {Name: "i16x8.extadd_pairwise_i8x16_s", Params: typesV128, Results: typesV128},
	OpI16x8ExtaddPairwiseI8x16U & 0xff: {Name: "i16x8.extadd_pairwise_i8x16_u", Params: typesV128, Results: typesV128},
	OpI32x4ExtaddPairwiseI16x8S & 0xff: {Name: "i32x4.extadd_pairwise_i16x8_s", Params: typesV128, Results: typesV128},
	OpI32x4ExtaddPairwiseI16x8U & 0xff: {Name: "i32x4.extadd_pairwise_i16x8_u", Params: typesV128, Results: typesV128},
	OpI16x8Abs & 0xff:                  {Name: "i16x8.abs", Params: typesV128, Results: typesV128},
	OpI16x8Neg & 0xff:                  {Name: "i16x8.neg", Params: typesV128, Results: typesV128},
	OpI16x8Q15mulrSatS & 0xff:          {Name: "i16x8.q15mulr_sat_s", Params: typesV128V128, Results: typesV128},
	OpI16x8AllTrue & 0xff:              {Name: "i16x8.all_true", Params: typesV128, Results: typesI32},
	OpI16x8Bitmask & 0xff:              {Name: "i16x8.bitmask", Params: typesV128, Results: typesI32},
	OpI16x8NarrowI32x4S & 0xff:         {Name: "i16x8.narrow_i32x4_s", Params: typesV128V128, Results: typesV128},
	OpI16x8NarrowI32x4U & 0xff:         {Name: "i16x8.narrow_i32x4_u", Params: typesV128V128, Results: typesV128},
	OpI16x8ExtendLowI8x16S & 0xff:      {Name: "i16x8.extend_low_i8x16_s", Params: typesV128, Results: typesV128},
	OpI16x8ExtendHighI8x16S & 0xff:     {Name: "i16x8.extend_high_i8x16_s", Params: typesV128, Results: typesV128},
	OpI16x8ExtendLowI8x16U & 0xff:      {Name: "i16x8.extend_low_i8x16_u", Params: typesV128, Results: typesV128},
	OpI16x8ExtendHighI8x16U & 0xff:     {Name: "i16x8.extend_high_i8x16_u", Params: typesV128, Results: typesV128},
	OpI16x8Shl & 0xff:                  {Name: "i16x8.shl", Params: typesV128I32, Results: typesV128},
	OpI16x8ShrS & 0xff:                 {Name: "i16x8.shr_s", Params: typesV128I32, Results: typesV128},
	OpI16x8ShrU & 0xff:                 {Name: "i16x8.shr_u", Params: typesV128I32, Results: typesV128},
	OpI16x8Add & 0xff:                  {Name: "i16x8.add", Params: typesV128V128, Results: typesV128},
	OpI16x8AddSatS & 0xff:              {Name: "i16x8.add_sat_s", Params: typesV128V128, Results: typesV128},
	OpI16x8AddSatU & 0xff:              {Name: "i16x8.add_sat_u", Params: typesV128V128, Results: typesV128},
	OpI16x8Sub & 0xff:                  {Name: "i16x8.sub", Params: typesV128V128, Results: typesV128},
	OpI16x8SubSatS & 0xff:              {Name: "i16x8.sub_sat_s", Params: typesV128V128, Results: typesV128},
	OpI16x8SubSatU & 0xff:              {Name: "i16x8.sub_sat_u", Params: typesV128V128, Results: typesV128},
	OpF64x2Nearest & 0xff:              {Name: "f64x2.nearest", Params: typesV128, Results: typesV128},
	OpI16x8Mul & 0xff:                  {Name: "i16x8.mul", Params: typesV128V128, Results: typesV128},
	OpI16x8MinS & 0xff:                 {Name: "i16x8.min_s", Params: typesV128V128, Results: typesV128},
	OpI16x8MinU & 0xff:                 {Name: "i16x8.min_u", Params: typesV128V128, Results: typesV128},
	OpI16x8MaxS & 0xff:                 {Name: "i16x8.max_s", Params: typesV128V128, Results: typesV128},
	OpI16x8MaxU & 0xff:                 {Name: "i16x8.max_u", Params: typesV128V128, Results: typesV128},
	OpI16x8AvgrU & 0xff:                {Name: "i16x8.avgr_u", Params: typesV128V128, Results: typesV128},
	OpI16x8ExtmulLowI8x16S & 0xff:      {Name: "i16x8.extmul_low_i8x16_s", Params: typesV128V128, Results: typesV128},
	OpI16x8ExtmulHighI8x16S & 0xff:     {Name: "i16x8.extmul_high_i8x16_s", Params: typesV128V128, Results: typesV128},
	OpI16x8ExtmulLowI8x16U & 0xff:      {Name: "i16x8.extmul_low_i8x16_u", Params: typesV128V128, Results: typesV128},
	OpI16x8ExtmulHighI8x16U & 0xff:     {Name: "i16x8.extmul_high_i8x16_u", Params: typesV128V128, Results: typesV128},
	OpI32x4Abs & 0xff:                  {Name: "i32x4.abs", Params: typesV128, Results: typesV128},
	OpI32x4Neg & 0xff:                  {Name: "i32x4.neg", Params: typesV128, Results: typesV128},
	OpI32x4AllTrue & 0xff:              {Name: "i32x4.all_true", Params: typesV128, Results: typesI32},
	OpI32x4Bitmask & 0xff:              {Name: "i32x4.bitmask", Params: typesV128, Results: typesI32},
	OpI32x4ExtendLowI16x8S & 0xff:      {Name: "i32x4.extend_low_i16x8_s", Params: typesV128, Results: typesV128},
	OpI32x4ExtendHighI16x8S & 0xff:     {Name: "i32x4.extend_high_i16x8_s", Params: typesV128, Results: typesV128},
	OpI32x4ExtendLowI16x8U & 0xff:      {Name: "i32x4.extend_low_i16x8_u", Params: typesV128, Results: typesV128},
	OpI32x4ExtendHighI16x8U & 0xff:     {Name: "i32x4.extend_high_i16x8_u", Params: typesV128, Results: typesV128},
	OpI32x4Shl & 0xff:                  {Name: "i32x4.shl", Params: typesV128I32, Results: typesV128},
	OpI32x4ShrS & 0xff:                 {Name: "i32x4.shr_s", Params: typesV128I32, Results: typesV128},
	OpI32x4ShrU & 0xff:                 {Name: "i32x4.shr_u", Params: typesV128I32, Results: typesV128},
	OpI32x4Add & 0xff:                  {Name: "i32x4.add", Params: typesV128V128, Results: typesV128},
	OpI32x4Sub & 0xff:                  {Name: "i32x4.sub", Params: typesV128V128, Results: typesV128},
	OpI32x4Mul & 0xff:                  {Name: "i32x4.mul", Params: typesV128V128, Results: typesV128},
	OpI32x4MinS & 0xff:                 {Name: "i32x4.min_s", Params: typesV128V128, Results: typesV128},
	OpI32x4MinU & 0xff:                 {Name: "i32x4.min_u", Params: typesV128V128, Results: typesV128},
	OpI32x4MaxS & 0xff:                 {Name: "i32x4.max_s", Params: typesV128V128, Results: typesV128},
	OpI32x4MaxU & 0xff:                 {Name: "i32x4.max_u", Params: typesV128V128, Results: typesV128},
	OpI32x4DotI16x8S & 0xff:            {Name: "i32x4.dot_i16x8_s", Params: typesV128V128, Results: typesV128},
	OpI32x4ExtmulLowI16x8S & 0xff:      {Name: "i32x4.extmul_low_i16x8_s", Params: typesV128V128, Results: typesV128},
	OpI32x4ExtmulHighI16x8S & 0xff:     {Name: "i32x4.extmul_high_i16x8_s", Params: typesV128V128, Results: typesV128},
	OpI32x4ExtmulLowI16x8U & 0xff:      {Name: "i32x4.extmul_low_i16x8_u", Params: typesV128V128, Results: typesV128},
	OpI32x4ExtmulHighI16x8U & 0xff:     {Name: "i32x4.extmul_high_i16x8_u", Params: typesV128V128, Results: typesV128},
	OpI64x2Abs & 0xff:                  {Name: "i64x2.abs", Params: typesV128, Results: typesV128},
	OpI64x2Neg & 0xff:                  {Name: "i64x2.neg", Params: typesV128, Results: typesV128},
	OpI64x2AllTrue & 0xff:              {Name: "i64x2.all_true", Params: typesV128, Results: typesI32},
	OpI64x2Bitmask & 0xff:              {Name: "i64x2.bitmask", Params: typesV128, Results: typesI32},
	OpI64x2ExtendLowI32x4S & 0xff:      {Name: "i64x2.extend_low_i32x4_s", Params: typesV128, Results: typesV128},
	OpI64x2ExtendHighI32x4S & 0xff:     {Name: "i64x2.extend_high_i32x4_s", Params: typesV128, Results: typesV128},
	OpI64x2ExtendLowI32x4U & 0xff:      {Name: "i64x2.extend_low_i32x4_u", Params: typesV128, Results: typesV128},
	OpI64x2ExtendHighI32x4U & 0xff:     {Name: "i64x2.extend_high_i32x4_u", Params: typesV128, Results: typesV128},
	OpI64x2Shl & 0xff:                  {Name: "i64x2.shl", Params: typesV128I32, Results: typesV128},
	OpI64x2ShrS & 0xff:                 {Name: "i64x2.shr_s", Params: typesV128I32, Results: typesV128},
	OpI64x2ShrU & 0xff:                 {Name: "i64x2.shr_u", Params: typesV128I32, Results: typesV128},
	OpI64x2Add & 0xff:                  {Name: "i64x2.add", Params: typesV128V128, Results: typesV128},
	OpI64x2Sub & 0xff:                  {Name: "i64x2.sub", Params: typesV128V128, Results: typesV128},
	OpI64x2Mul & 0xff:                  {Name: "i64x2.mul", Params: typesV128V128, Results: typesV128},
	OpI64x2Eq & 0xff:                   {Name: "i64x2.eq", Params: typesV128V128, Results: typesV128},
	OpI64x2Ne & 0xff:                   {Name: "i64x2.ne", Params: typesV128V128, Results: typesV128},
	OpI64x2LtS & 0xff:                  {Name: "i64x2.lt_s", Params: typesV128V128, Results: typesV128},
	OpI64x2GtS & 0xff:                  {Name: "i64x2.gt_s", Params: typesV128V128, Results: typesV128},
	OpI64x2LeS & 0xff:                  {Name: "i64x2.le_s", Params: typesV128V128, Results: typesV128},
	OpI64x2GeS & 0xff:                  {Name: "i64x2.ge_s", Params: typesV128V128, Results: typesV128},
	OpI64x2ExtmulLowI32x4S & 0xff:      {Name: "i64x2.extmul_low_i32x4_s", Params: typesV128V128, Results: typesV128},
	OpI64x2ExtmulHighI32x4S & 0xff:     {Name: "i64x2.extmul_high_i32x4_s", Params: typesV128V128, Results: typesV128},
	OpI64x2ExtmulLowI32x4U & 0xff:      {Name: "i64x2.extmul_low_i32x4_u", Params: typesV128V128, Results: typesV128},
	OpI64x2ExtmulHighI32x4U & 0xff:     {Name: "i64x2.extmul_high_i32x4_u", Params: typesV128V128, Results: typesV128},
	OpF32x4Abs & 0xff:                  {Name: "f32x4.abs", Params: typesV128, Results: typesV128},
	OpF32x4Neg & 0xff:                  {Name: "f32x4.neg", Params: typesV128, Results: typesV128},
	OpF32x4Sqrt & 0xff:                 {Name: "f32x4.sqrt", Params: typesV128, Results: typesV128},
	OpF32x4Add & 0xff:                  {Name: "f32x4.add", Params: typesV128V128, Results: typesV128},
	OpF32x4Sub & 0xff:                  {Name: "f32x4.sub", Params: typesV128V128, Results: typesV128},
	OpF32x4Mul & 0xff:                  {Name: "f32x4.mul", Params: typesV128V128, Results: typesV128},
	OpF32x4Div & 0xff:                  {Name: "f32x4.div", Params: typesV128V128, Results: typesV128},
	OpF32x4Min & 0xff:                  {Name: "f32x4.min", Params: typesV128V128, Results: typesV128},
	OpF32x4Max & 0xff:                  {Name: "f32x4.max", Params: typesV128V128, Results: typesV128},
	OpF32x4Pmin & 0xff:                 {Name: "f32x4.pmin", Params: typesV128V128, Results: typesV128},
	OpF32x4Pmax & 0xff:                 {Name: "f32x4.pmax", Params: typesV128V128, Results: typesV128},
	OpF64x2Abs & 0xff:                  {Name: "f64x2.abs", Params: typesV128, Results: typesV128},
	OpF64x2Neg & 0xff:                  {Name: "f64x2.neg", Params: typesV128, Results: typesV128},
	OpF64x2Sqrt & 0xff:                 {Name: "f64x2.sqrt", Params: typesV128, Results: typesV128},
	OpF64x2Add & 0xff:                  {Name: "f64x2.add", Params: typesV128V128, Results: typesV128},
	OpF64x2Sub & 0xff:                  {Name: "f64x2.sub", Params: typesV128V128, Results: typesV128},
	OpF64x2Mul & 0xff:                  {Name: "f64x2.mul", Params: typesV128V128, Results: typesV128},
	OpF64x2Div & 0xff:                  {Name: "f64x2.div", Params: typesV128V128, Results: typesV128},
	OpF64x2Min & 0xff:                  {Name: "f64x2.min", Params: typesV128V128, Results: typesV128},
	OpF64x2Max & 0xff:                  {Name: "f64x2.max", Params: typesV128V128, Results: typesV128},
	OpF64x2Pmin & 0xff:                 {Name: "f64x2.pmin", Params: typesV128V128, Results: typesV128},
	OpF64x2Pmax & 0xff:                 {Name: "f64x2.pmax", Params: typesV128V128, Results: typesV128},
	OpI32x4TruncSatF32x4S & 0xff:       {Name: "i32x4.trunc_sat_f32x4_s", Params: typesV128, Results: typesV128},
	OpI32x4TruncSatF32x4U & 0xff:       {Name: "i32x4.trunc_sat_f32x4_u", Params: typesV128, Results: typesV128},
	OpF32x4ConvertI32x4S & 0xff:        {Name: "f32x4.convert_i32x4_s", Params: typesV128, Results: typesV128},
	OpF32x4ConvertI32x4U & 0xff:        {Name: "f32x4.convert_i32x4_u", Params: typesV128, Results: typesV128},
	OpI32x4TruncSatF64x2SZero & 0xff:   {Name: "i32x4.trunc_sat_f64x2_s_zero", Params: typesV128, Results: typesV128},
	OpI32x4TruncSatF64x2UZero & 0xff:   {Name: "i32x4.trunc_sat_f64x2_u_zero", Params: typesV128, Results: typesV128},
	OpF64x2ConvertLowI32x4S & 0xff:     {Name: "f64x2.convert_low_i32x4_s", Params: typesV128, Results: typesV128},
	OpF64x2ConvertLowI32x4U & 0xff:     {Name: "f64x2.convert_low_i32x4_u", Params: typesV128, Results: typesV128},
}
