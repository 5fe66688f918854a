package host

import (
	"encoding/binary"
	"io/fs"
	"net/netip"
	"time"

	"github.com/hostrole/hostrole/imds/caller/kernel"
)

const RequestSize = requestSize

// An Answer is what the kernel said, before anybody believed it.
type Answer struct {
	State    uint8
	Src, Dst netip.AddrPort
	UID      uint32
	Inode    uint32
	Cgroup   uint64
}

func Encode(client, server netip.AddrPort, seq uint32) []byte {
	var b [requestSize]byte
	encode(&b, question{client, server})
	binary.NativeEndian.PutUint32(b[8:], seq) // which a line does
	return b[:]
}

func Decode(b []byte, seq uint32) (Answer, error) {
	a, err := decode(kernel.Answer(b, seq))
	return Answer{a.state, a.src, a.dst, a.uid, a.inode, a.cgroup}, err
}

func (a Answer) Answers(client, server netip.AddrPort) error {
	return answer{owner{a.UID, a.Inode, a.Cgroup}, a.State, a.Src, a.Dst}.answers(question{client, server})
}

func CheckUIDMap(path string, trust bool) error { return checkUIDMap(path, trust) }

func ReadOverflow(path string) uint32 { return readOverflow(path) }

func (e *Enricher) Meaningless(uid uint32) bool { return e.meaningless(uid) }

func WithOverflow(uid uint32) *Enricher { return &Enricher{overflow: uid} }

type Database struct{ d *database }

func NewDatabase(etc fs.FS) Database { return Database{newDatabase(etc)} }

func (d Database) Find(uid uint32, now time.Duration) (name string, groups []string, err error) {
	a, err := d.d.find(uid, now)
	return a.name, a.groups, err
}

const DatabaseLimit = databaseLimit
