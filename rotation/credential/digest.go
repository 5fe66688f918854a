package credential

import "crypto/sha256"

// Digest is all of k, for what outlives the process. It says nothing about the
// parameters that k was derived from.
func (k Key) Digest() [sha256.Size]byte { return k.digest }

// KeyOf is the key with this digest.
func KeyOf(digest [sha256.Size]byte) Key { return Key{digest} }
