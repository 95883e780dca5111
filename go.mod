module github.com/adyton-dev/adyton

go 1.26.0
