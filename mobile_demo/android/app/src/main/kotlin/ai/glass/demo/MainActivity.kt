package ai.glass.demo

import ai.glass.demo.ui.DemoScreens
import android.os.Bundle
import androidx.activity.ComponentActivity
import androidx.activity.compose.setContent
import androidx.activity.enableEdgeToEdge
import androidx.activity.viewModels

class MainActivity : ComponentActivity() {
    private val model: DemoViewModel by viewModels()

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        enableEdgeToEdge()
        setContent { DemoScreens(model) }
    }

    override fun onResume() {
        super.onResume()
        model.refresh() // adb may have pushed an artifact
    }
}
