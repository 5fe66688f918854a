package imds

import (
	"strconv"
	"time"
)

// A Response is what a handler answers. The server adds Content-Length, Date,
// Server and Connection between Head and Tail, the order in which EC2 has
// them. A Response is not changed after it was returned.
type Response struct {
	Status int
	Head   []Field // before Content-Length
	Tail   []Field // after Connection
	Body   []byte
	// HopLimited keeps the answer from travelling on: it leaves with the
	// listener's hop limit.
	HopLimited bool
}

// plain is the last header of EC2's answers without a body.
var plain = []Field{{"Content-Type", "text/plain"}}

// Empty returns a response without a body, in the shape of EC2's.
func Empty(status int) Response { return Response{Status: status, Tail: plain} }

// statusText has the words of every status that is sent here.
var statusText = map[int]string{
	200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
	408: "Request Timeout", 413: "Content Too Large", 414: "URI Too Long", 429: "Too Many Requests", 431: "Request Header Fields Too Large",
	500: "Internal Server Error", 503: "Service Unavailable", 505: "HTTP Version Not Supported",
}

// appendTo renders r. The answer to a HEAD has the headers of the GET and no
// body.
func (r *Response) appendTo(b []byte, now time.Time, server string, head bool) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(r.Status), 10)
	b = append(b, ' ')
	b = append(b, statusText[r.Status]...)
	b = append(b, "\r\n"...)
	b = appendFields(b, r.Head)
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(r.Body)), 10)
	b = append(b, "\r\nDate: "...)
	b = now.UTC().AppendFormat(b, "Mon, 02 Jan 2006 15:04:05 GMT")
	if server != "" {
		b = append(b, "\r\nServer: "...)
		b = append(b, server...)
	}
	b = append(b, "\r\nConnection: close\r\n"...)
	b = appendFields(b, r.Tail)
	b = append(b, "\r\n"...)
	if !head {
		b = append(b, r.Body...)
	}
	return b
}

func appendFields(b []byte, fields []Field) []byte {
	for _, f := range fields {
		b = append(b, f.Name...)
		b = append(b, ": "...)
		b = append(b, f.Value...)
		b = append(b, "\r\n"...)
	}
	return b
}
