package occupant

// Decode reads an answer of the kernel.
func Decode(b []byte) error { _, err := decode(b); return err }
