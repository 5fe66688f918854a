package rotation

import (
	"errors"
	"strings"

	"github.com/hostrole/hostrole/rotation/source"
)

// A Class says which wait a failure is followed by.
type Class uint8

// The classes; from Refetch on, the upstream's answer was definite.
const (
	Fine          Class = iota // no failure
	Transient                  // no answer, or a fault of the upstream
	Throttled                  // the upstream has more calls than it takes
	Refetch                    // what was shown is not accepted; a new one may be
	Slow                       // a definite no, which people repair in minutes
	Misconfigured              // a request that cannot succeed until somebody edits a file
)

// String is one word for logs.
func (c Class) String() string {
	return [...]string{"fine", "transient", "throttled", "refetch", "refused", "misconfigured"}[c]
}

// classes are the codes of AWS's services and of those that speak like them;
// a code that is not here is judged by the kind of its error.
var classes = map[string]Class{
	"RequestLimitExceeded": Throttled, "TooManyRequestsException": Throttled, "SlowDown": Throttled, "LimitExceededException": Throttled,
	"InvalidIdentityToken": Refetch, "ExpiredTokenException": Refetch, "IDPRejectedClaim": Refetch,
	"ValidationError": Misconfigured, "ValidationException": Misconfigured, "InvalidParameterValue": Misconfigured,
	"InvalidParameterException": Misconfigured, "MissingParameter": Misconfigured, "MalformedPolicyDocument": Misconfigured,
	"PackedPolicyTooLarge": Misconfigured, "RegionDisabledException": Misconfigured,
}

// Classify finds the class of err, which is Fine for nil only.
func Classify(err error) Class {
	if err == nil {
		return Fine
	}
	e := &source.Error{}
	_ = errors.As(err, &e)
	switch c, known := classes[e.Code]; {
	case known:
		return c
	case e.Status == 429 || strings.HasPrefix(e.Code, "Throttling"):
		return Throttled
	case errors.Is(err, source.ErrRefused):
		return Slow
	}
	return Transient
}
