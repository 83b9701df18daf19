module corten.dev/e2e/yardstick/apiload

go 1.26.0
