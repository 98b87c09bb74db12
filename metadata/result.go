package metadata

// EncodeResult writes what State's Apply answered for a command, so that a proposer elsewhere can be told. Error: no result of State's.
func EncodeResult(result any) ([]byte, error) { panic("metadata: EncodeResult: to be written") }

// DecodeResult reads what EncodeResult wrote. Any other bytes are an error.
func DecodeResult(b []byte) (any, error) { panic("metadata: DecodeResult: to be written") }
