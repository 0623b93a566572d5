// fake-gcs-server on loopback, with what it lacks of Google's XML API: PUT, led to its JSON API. What is stored, and
// which of two creations was first, is decided by fake-gcs-server. It refuses uploads in parts.
//
// Prints its address, and ends when its input does.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/fsouza/fake-gcs-server/fakestorage"
)

const bucket = "tidegate"

type xmlAPI struct{ handler http.Handler }

func main() {
	server, err := fakestorage.NewServerWithOptions(fakestorage.Options{
		NoListener: true,
		PublicHost: "127.0.0.1",
		Writer:     io.Discard,
	})
	if err != nil {
		log.Fatal(err)
	}
	server.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: bucket})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	log.Fatal(http.Serve(listener, xmlAPI{server.HTTPHandler()}))
}

func (api xmlAPI) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	name, key, isObject := strings.Cut(strings.TrimPrefix(request.URL.EscapedPath(), "/"), "/")
	if request.Method == http.MethodPut && isObject && request.URL.RawQuery == "" {
		api.put(answer, request, name, key)
	} else {
		api.handler.ServeHTTP(answer, request)
	}
}

// A PUT as the JSON API's upload. https://cloud.google.com/storage/docs/xml-api/put-object-upload
func (api xmlAPI) put(answer http.ResponseWriter, request *http.Request, name, key string) {
	key, err := url.PathUnescape(key)
	if err != nil {
		http.Error(answer, err.Error(), http.StatusBadRequest)
		return
	}
	upload := url.Values{"uploadType": {"media"}, "name": {key}}
	if condition := request.Header.Get("x-goog-if-generation-match"); condition != "" {
		upload.Set("ifGenerationMatch", condition)
	}
	inner := request.Clone(request.Context())
	inner.Method = http.MethodPost
	inner.URL = &url.URL{Path: "/upload/storage/v1/b/" + name + "/o", RawQuery: upload.Encode()}
	recorder := httptest.NewRecorder()
	api.handler.ServeHTTP(recorder, inner)
	if recorder.Code != http.StatusOK {
		answer.WriteHeader(recorder.Code)
		_, _ = recorder.Body.WriteTo(answer)
		return
	}
	var object struct{ Etag, Generation string }
	if err := json.Unmarshal(recorder.Body.Bytes(), &object); err != nil {
		http.Error(answer, err.Error(), http.StatusInternalServerError)
		return
	}
	answer.Header().Set("ETag", strconv.Quote(object.Etag))
	answer.Header().Set("x-goog-generation", object.Generation)
}
