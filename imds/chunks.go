package imds

import (
	"errors"
	"io"
	"net"
	"strings"
)

// noChunks is the one body in chunks that there may be: the last chunk, with
// neither an extension nor a trailer.
const noChunks = "0\r\n\r\n"

// goOn is what a client waits for that would rather not send its body in vain.
const goOn = "HTTP/1.1 100 Continue\r\n\r\n"

// readNoChunks reads a body in chunks that has to be empty. begun is what came
// with the head. A client that asked to be told is told to go on: libcurl holds
// five bytes back for a second otherwise.
func readNoChunks(conn io.ReadWriter, r *Request, begun []byte) refusal {
	var b [len(noChunks)]byte
	n := copy(b[:], begun)
	if expect, _ := r.Lookup("expect"); n == 0 && equalFold(expect, "100-continue") {
		if _, err := io.WriteString(conn, goOn); err != nil {
			return hungUp
		}
	}
	for {
		if !strings.HasPrefix(noChunks, string(b[:n])) {
			return 400
		}
		if n == len(b) {
			return accepted
		}
		m, err := conn.Read(b[n:])
		n += m
		var timeout net.Error
		switch {
		case m > 0 || err == nil:
		case errors.As(err, &timeout) && timeout.Timeout():
			return 408
		default:
			return hungUp
		}
	}
}
