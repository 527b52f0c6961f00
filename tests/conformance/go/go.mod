module tidemark/conformance

go 1.24
