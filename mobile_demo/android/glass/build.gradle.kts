plugins {
    alias(libs.plugins.android.library)
}

// libglass_jni.so is built by ../build_native.sh into src/main/jniLibs: ExecuTorch takes an hour to
// build, and seldom changes.
android {
    namespace = "ai.glass"
    compileSdk = 36
    defaultConfig {
        minSdk = 28
        consumerProguardFiles("consumer-rules.pro")
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
}

dependencies {
    api(libs.coroutines.core)
}
