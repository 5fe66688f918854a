package svid

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The wire types of protocol buffers. Groups, 3 and 4, are out of use.
const (
	number  = 0
	eight   = 1 // bytes
	lengthy = 2 // text, or a message
	four    = 5 // bytes
)

// request is a JWTSVIDRequest: field 1 is an audience, field 2 an identity.
func request(audience, id string) []byte {
	b := appendText(nil, 1, audience)
	if id != "" {
		b = appendText(b, 2, id)
	}
	return b
}

func appendText(b []byte, field byte, text string) []byte {
	b = append(b, field<<3|lengthy)
	b = binary.AppendUvarint(b, uint64(len(text)))
	return append(b, text...)
}

// pick returns the token of the identity that was asked for, or of the first,
// out of a JWTSVIDResponse: field 1 is a JWTSVID each, with the identity in
// field 1 and the token in field 2.
func pick(message []byte, want string) (token string, err error) {
	var seen int
	err = fields(message, func(field uint64, svid []byte) error {
		if field != 1 || token != "" {
			return nil
		}
		seen++
		var id, text string
		err := fields(svid, func(field uint64, value []byte) error {
			switch field {
			case 1:
				id = string(value)
			case 2:
				text = string(value)
			}
			return nil
		})
		if want == "" && seen == 1 || want != "" && id == want {
			token = text
		}
		return err
	})
	switch {
	case err != nil:
		return "", err
	case token == "" && want != "" && seen > 0:
		return "", fmt.Errorf("the answer has a token for none of its %d identities that is %q", seen, want)
	case token == "":
		return "", errors.New("the answer has no token")
	}
	return token, nil
}

var errBroken = errors.New("the answer is no protocol buffer: it is cut short, or broken")

// fields calls each for the text and the messages among a message's fields,
// and passes over numbers.
func fields(b []byte, each func(field uint64, value []byte) error) error {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag>>3 == 0 {
			return errBroken
		}
		b = b[n:]
		size := uint64(0)
		switch tag & 7 {
		case number:
			_, n = binary.Uvarint(b)
			if n > 0 {
				size = uint64(n)
			}
		case eight:
			size = 8
		case lengthy:
			size, n = binary.Uvarint(b)
			b = b[max(n, 0):]
		case four:
			size = 4
		default:
			return errBroken
		}
		if n <= 0 || size > uint64(len(b)) {
			return errBroken
		}
		if tag&7 == lengthy {
			if err := each(tag>>3, b[:size]); err != nil {
				return err
			}
		}
		b = b[size:]
	}
	return nil
}
