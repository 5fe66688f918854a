package vault

import "github.com/hostrole/hostrole/rotation/credential"

// Accept reads and checks an answer of the engine, for fuzzing.
func (s Source) Accept(text []byte) (credential.Credential, error) {
	a, err := parse(text)
	if err != nil {
		return credential.Credential{}, err
	}
	return s.accept(a, s.Now())
}
