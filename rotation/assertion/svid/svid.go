// Package svid gets a JWT-SVID, which is a token for this process, from the
// SPIFFE Workload API on a unix socket of this host.
//
// # Why not
//
// Not go-spiffe: with gRPC's own library it is larger than the rest of this
// program, for one call of three fields. Not package upstream: that speaks TCP
// and keeps off what leaves the host; here the kernel tells the API who asks.
// Not the API's stream of X.509-SVIDs: STS takes tokens.
package svid

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

const (
	method = "/SpiffeWorkloadAPI/FetchJWTSVID"
	// answerLimit bounds an answer: a few identities with a token each.
	answerLimit = 256 << 10
)

// A Code is a status of gRPC other than OK.
type Code int

// The codes with which the API says no.
const (
	InvalidArgument  Code = 3
	PermissionDenied Code = 7
	Unimplemented    Code = 12
	Unauthenticated  Code = 16
)

var names = [...]string{
	"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists", "PermissionDenied", "ResourceExhausted",
	"FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss", "Unauthenticated",
}

// String is the code's name in gRPC.
func (c Code) String() string {
	if c < 0 || int(c) >= len(names) {
		return "status " + strconv.Itoa(int(c))
	}
	return names[c]
}

// A Status is an answer that is no identity.
type Status struct {
	Code    Code
	Message string // the API's own words, as they came
}

// Error has the code and the message.
func (s *Status) Error() string { return s.Code.String() + ": " + s.Message }

// Fetch makes one call and returns the token for that audience: of the
// identity id, such as "spiffe://example.org/host", or of the first identity
// in the answer, which is the default, where id is "". An error is a [Status]
// when the API gave one; no other error has text of the answer.
func Fetch(ctx context.Context, socket, audience, id string) (token string, err error) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		Protocols:              &protocols,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 32 << 10,
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost"+method, bytes.NewReader(frame(request(audience, id))))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/grpc")
	r.Header.Set("TE", "trailers")
	r.Header.Set("workload.spiffe.io", "true") // a program that is tricked into a call does not send it
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/grpc") {
		return "", fmt.Errorf("the answer is HTTP status %d and not gRPC: is it the Workload API's socket?", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("reading the answer: %w", err)
	case len(body) > answerLimit:
		return "", fmt.Errorf("the answer is larger than %d bytes", answerLimit)
	}
	if err := status(resp); err != nil {
		return "", err
	}
	message, err := unframe(body)
	if err != nil {
		return "", err
	}
	return pick(message, id)
}

// status reads how the call ended: in the trailer, or in the header of an
// answer without a message.
func status(resp *http.Response) error {
	last := resp.Trailer
	if last.Get("Grpc-Status") == "" {
		last = resp.Header
	}
	code, err := strconv.ParseUint(last.Get("Grpc-Status"), 10, 16)
	switch {
	case err != nil:
		return errors.New("the answer ends without a status")
	case code == 0:
		return nil
	}
	message := last.Get("Grpc-Message")
	if text, err := url.PathUnescape(message); err == nil {
		message = text
	}
	return &Status{Code(code), message}
}

// frame and unframe put one message into a stream of gRPC and take it out: a
// byte that says that it is not compressed, its length, and the message.
func frame(message []byte) []byte {
	head := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))) // #nosec G115 -- ours, and short
	return append(head, message...)
}

func unframe(b []byte) ([]byte, error) {
	switch {
	case len(b) < 5:
		return nil, errors.New("the answer has no message")
	case b[0] != 0:
		return nil, errors.New("the answer is compressed, which was not asked for")
	case int64(binary.BigEndian.Uint32(b[1:])) != int64(len(b)-5):
		return nil, errors.New("the answer is not one message")
	}
	return b[5:], nil
}
