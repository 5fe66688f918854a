package sts

import (
	"bytes"
	"encoding/xml"
	"io"
	"net/http"

	"github.com/hostrole/hostrole/rotation/upstream"
)

// errorForm is the way out for the SDK. Ceph's gateway answers a refused
// AssumeRole in the form of S3, <Error> alone, in which the SDK for STS finds
// no code; in the envelope of STS it does.
type errorForm struct{ *upstream.Client }

func (f errorForm) Do(r *http.Request) (*http.Response, error) {
	resp, err := f.Client.Do(r)
	if err != nil || resp.StatusCode < 400 {
		return resp, err
	}
	body, err := io.ReadAll(resp.Body) // in memory already
	if err != nil {
		return nil, err
	}
	_ = resp.Body.Close()
	var root struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
	}
	if xml.Unmarshal(body, &root) == nil && root.Code != "" {
		if begin := bytes.Index(body, []byte("<Error")); begin >= 0 { // past the XML declaration
			body = bytes.Join([][]byte{[]byte("<ErrorResponse>"), body[begin:], []byte("</ErrorResponse>")}, nil)
		}
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return resp, nil
}
